"""What decided while something was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bidkv.registry import create_default_registry

STOCK = "stock"
RULES = ("admission", "victim", "retention")
PARAMETERS = ("admission_params", "params", "retention_params")


def decided(strategy: Mapping[str, Any]) -> str:
    """In words, of a `strategy` record: its name, and what was replaced in it. With the kill switch on the engine decides."""
    if strategy.get("kill_switch"):
        return STOCK
    name = str(strategy["strategy"])
    own = own_rules(name)
    parts = [f"{key} {strategy[key]}" for key in RULES if strategy.get(key) not in (None, own.get(key))]
    parts += [f"{key} {_json(strategy[key])}" for key in PARAMETERS if strategy.get(key)]
    return f"{name} with {', '.join(parts)}" if parts else name


def all_decided(strategies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each once, in order."""
    return sorted(set(map(decided, strategies)))


def own_rules(name: str) -> dict[str, str]:
    """The rules that a strategy's name stands for; none of a name that this version does not know."""
    registry = create_default_registry()
    if name not in registry.list_strategies():
        return {}
    strategy = registry.get(name)
    return {key: getattr(strategy, key).name for key in RULES}


def _json(value: Any) -> str:
    return json.dumps(dict(value), sort_keys=True)
