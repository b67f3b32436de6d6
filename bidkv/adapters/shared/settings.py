"""What an engine has to know to run one strategy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any

from bidkv.adapters.shared.rules import check_rules
from bidkv.errors import BidValidationError
from bidkv.policy_file import is_reference
from bidkv.registry import BaselineRegistry, create_default_registry
from bidkv.strategies.base import Strategy

_TYPES: dict[str, tuple[type, ...]] = {
    "strategy": (str,),
    "admission": (str, type(None)),
    "victim": (str, type(None)),
    "retention": (str, type(None)),
    "params": (dict,),
    "admission_params": (dict,),
    "retention_params": (dict,),
    "seed": (int,),
    "run_id": (str,),
    "events_path": (str, type(None)),
    "steps_path": (str, type(None)),
    "kill_switch": (bool,),
    "log_schedule": (bool,),
    "client_facts": (bool,),
    "until": (float, int, type(None)),
}

NAMED = ("strategy", "admission", "victim", "retention", "events_path", "steps_path")
"""Names and paths, which are something or left out."""


@dataclass(frozen=True)
class AdapterSettings:
    """A strategy, its overrides and where its records go; the same for every engine.

    `admission`, `victim` and `retention` replace that part of the named strategy. `params` go to the victim
    policy, `admission_params` and `retention_params` to the others, and `seed` to a policy whose constructor takes
    one. No path, no record. `client_facts` says that clients are trusted with what policies see of their
    requests (see `ClientFacts`); else nothing that they declare has an effect. At `until`, in seconds since the
    epoch, the kill switch turns itself on: whoever wrote these settings may be gone by then.
    """

    strategy: str
    admission: str | None = None
    victim: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    admission_params: dict[str, Any] = field(default_factory=dict)
    retention: str | None = None
    retention_params: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    run_id: str = ""
    events_path: str | None = None
    steps_path: str | None = None
    kill_switch: bool = False  # the engine decides for itself
    log_schedule: bool = False  # every step also lists what it scheduled
    client_facts: bool = False
    until: float | None = None  # of the engine's clock, which nobody sets once it runs

    def __post_init__(self) -> None:
        for key, allowed in _TYPES.items():
            value = getattr(self, key)
            if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
                names = " or ".join("null" if t is type(None) else t.__name__ for t in allowed)
                raise BidValidationError(f"bidkv settings: {key} must be {names}, got {value!r}")
        for key in NAMED:
            if getattr(self, key) == "":  # as of a shell's variable that is not set
                raise BidValidationError(f"bidkv settings: {key} must not be empty; leave it out")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AdapterSettings:
        """Raises `BidValidationError` on an unknown key, a missing strategy or a wrong type."""
        allowed = [f.name for f in fields(cls)]
        for key in values:
            if key not in allowed:
                names = ", ".join(allowed)
                raise BidValidationError(f"bidkv settings: unknown key {key!r}; allowed: {names}")
        if "strategy" not in values:
            raise BidValidationError("bidkv settings: the key 'strategy' is missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def decides(self) -> dict[str, Any]:
        """What of it decides; the rest says where records go."""
        others = ("run_id", "events_path", "steps_path", "log_schedule")
        return {key: value for key, value in self.to_dict().items() if key not in others}

    def of_rank(self, rank: str | None) -> AdapterSettings:
        """The same with record files of its own, for one of several engines: events.jsonl, events.dp1.jsonl."""
        if rank is None:
            return self
        return replace(self, events_path=_own(self.events_path, rank), steps_path=_own(self.steps_path, rank))

    def build(self, registry: BaselineRegistry | None = None) -> Strategy:
        """A new strategy; raises `UnknownNameError` or `BidValidationError`."""
        registry = registry or create_default_registry()
        given = (self.params, self.admission_params, self.retention_params)
        strategy = self._create(registry, *given)
        check_rules(strategy.admission)
        policies = (strategy.victim, strategy.admission, strategy.retention)
        seeded = tuple(self._seeded(policy, own) for policy, own in zip(policies, given, strict=True))
        return strategy if seeded == given else self._create(registry, *seeded)

    def _seeded(self, policy: Any, params: dict[str, Any]) -> dict[str, Any]:
        takes_seed = "seed" in inspect.signature(type(policy)).parameters
        return {"seed": self.seed, **params} if takes_seed else params

    def _create(
        self,
        registry: BaselineRegistry,
        params: dict[str, Any],
        admission_params: dict[str, Any],
        retention_params: dict[str, Any],
    ) -> Strategy:
        others = {"admission_params": admission_params, "retention_params": retention_params}
        params = {**params, **{key: value for key, value in others.items() if value}}
        parts = (self.admission, self.victim, self.retention)
        if parts == (None, None, None):
            return registry.get(self.strategy, **params)
        if None not in parts:
            return registry.pair(*parts, **params)  # any name will do
        if self.admission is not None and self.victim is not None and not self._names_a_strategy(registry):
            return registry.pair(self.admission, self.victim, **params)
        if is_reference(self.strategy):
            kept = [self.strategy] * len(parts)  # its classes are registered nowhere
        else:
            kept = [policy.name for policy in registry.get(self.strategy).policies]
        return registry.pair(*(part or own for part, own in zip(parts, kept, strict=True)), **params)

    def _names_a_strategy(self, registry: BaselineRegistry) -> bool:
        return is_reference(self.strategy) or self.strategy in registry.list_strategies()


def _own(path: str | None, rank: str) -> str | None:
    if path is None:
        return None
    whole = PurePath(path)
    return str(whole.with_name(f"{whole.stem}.{rank}{whole.suffix}"))
