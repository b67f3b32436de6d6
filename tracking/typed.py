"""What was typed for a command: each key must exist, and must change something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from tracking.nearest import did_you_mean


class Idle(NamedTuple):
    """A key, or the beginning of several, that changes nothing; `because` says why, and what does."""

    key: str
    because: str


def typed() -> dict[str, Any]:
    """The keys that were typed for the Hydra app that runs."""
    return typed_keys(HydraConfig.get().overrides.task)


def typed_keys(overrides: Iterable[str]) -> dict[str, Any]:
    """The keys of Hydra's overrides with their values; a mapping counts as its keys, a group as where it goes."""
    found: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_delete() or override.key_or_group.startswith("hydra"):
            continue
        swept = override.is_sweep_override()
        value = override.value_string if swept else override.value()
        found.update(_leaves(override.package or override.key_or_group, value))
    return found


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def idle_ones(typed: Mapping[str, Any], idle: Iterable[Idle]) -> dict[str, str]:
    """Those of the typed keys that change nothing, each with why. Null asks for nothing, so it may stand anywhere."""
    rules = list(idle)
    found: dict[str, str] = {}
    for key, value in typed.items():
        rule = next((rule for rule in rules if key == rule.key or key.startswith(f"{rule.key}.")), None)
        if rule is not None and value is not None:
            found[key] = rule.because
    return found


def refuse_idle(typed: Mapping[str, Any], idle: Iterable[Idle]) -> None:
    """Raises ValueError for the first typed key that changes nothing."""
    for key, because in idle_ones(typed, idle).items():
        raise ValueError(f"{key}={typed[key]}: would change nothing: {because}")


def refuse_unknown(typed: Mapping[str, Any], schema: type) -> None:
    """Raises ValueError for a key that the configuration does not have: `+` lets Hydra add any."""
    for key in typed:
        _check_key(key, schema)


def _check_key(key: str, schema: Any) -> None:
    for place, name in enumerate(key.split(".")):
        schema = _bare(schema)
        if get_origin(schema) is dict:
            schema = get_args(schema)[1]
            continue
        if not is_dataclass(schema):
            return
        hints = get_type_hints(schema)
        known = [field.name for field in fields(schema) if field.init]
        if name not in known:
            before = ".".join(key.split(".")[:place])
            raise ValueError(f"{key}: there is no such key{did_you_mean(name, known, before)}")
        schema = hints[name]


def _bare(hint: Any) -> Any:
    """The type without "or None"."""
    if get_origin(hint) in (Union, UnionType):
        (hint, *_) = [arg for arg in get_args(hint) if arg is not type(None)]
    return hint
