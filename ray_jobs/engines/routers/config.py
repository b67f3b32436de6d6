"""Configuration of the router in front of several engines: `engine.router`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import ray_jobs.engines.routers as routers
from bidkv.named import named_classes
from ray_jobs.engines.routers.base import Router
from tracking.errors import require, require_one_of


@dataclass
class RouterConfig:
    """Which rule chooses the replica, and how old what it knows of them may be.

    Replicas report every `stale_s` seconds; 0 = it sees them as they are. What it sent since, it knows itself.
    """

    name: str = "power-of-two"
    stale_s: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_one_of("engine.router.name", self.name, sorted(router_classes()))
        require(0 <= self.stale_s <= 3600, "engine.router.stale_s", self.stale_s, "from 0 to 3600")
        own = router_params(self.rule)
        for key in self.params:
            require(bool(own), "engine.router.params", self.params, f"empty: {self.name} has none")
            require_one_of(f"engine.router.params of {self.name}", key, own)
        for value in self.params.values():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(is_number, "engine.router.params", self.params, "numbers")
        self.make(1, 1, 0)

    @property
    def rule(self) -> type[Router]:
        return router_classes()[self.name]

    def make(self, replicas: int, pool_tokens: int, seed: int) -> Router:
        return self.rule(replicas, pool_tokens, seed, **self.params)


def router_classes() -> dict[str, type[Router]]:
    """All there are, by name."""
    return {cls.name: cls for cls in named_classes(routers, Router)}


def router_params(cls: type[Router]) -> list[str]:
    """Names of what a rule's own parameters are."""
    return [p for p in inspect.signature(cls).parameters if p not in ("replicas", "pool_tokens", "seed")]
