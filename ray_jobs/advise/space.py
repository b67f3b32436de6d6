"""Candidates: a strategy with settings of the engine, and which of them are neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from bidkv.retention.lru import Lru
from ray_jobs.advise.config import SpaceConfig
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import StrategyConfig

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Candidate:
    """A strategy by its name in `space.strategies`, and what it changes of the engine."""

    strategy: str
    settings: Settings = ()

    @property
    def label(self) -> str:
        changes = ",".join(
            f"{key}={value if isinstance(value, str) else f'{value:g}'}" for key, value in self.settings
        )
        return f"{self.strategy}[{changes}]" if changes else self.strategy

    @property
    def plain(self) -> Candidate:
        """The same strategy in the engine as it is."""
        return Candidate(self.strategy)


class Space:
    """All candidates for one engine.

    Factors of `space` become numbers of the engine's; values that it cannot have are left out, and what is for
    `sessions` where the workload has none or the engine no prefix cache.
    """

    def __init__(self, config: SpaceConfig, engine: EngineConfig, sessions: bool = False):
        returns = sessions and engine.prefix_caching
        self._engine = engine
        left_out = () if returns else config.sessions_only
        self.strategies = {name: own for name, own in config.strategies.items() if name not in left_out}
        self.values: dict[str, list[Any]] = {
            "retention": config.retention if returns else [],
            "kv_offload_gib": [gib for gib in config.kv_offload_gib if gib > engine.kv_offload_gib]
            if returns and takes_host_memory(engine)
            else [],
            "watermark": [share for share in config.watermark if share],
            "max_num_seqs": _numbers(engine.max_num_seqs, config.max_num_seqs),
            "max_num_batched_tokens": _numbers(engine.max_num_batched_tokens, config.max_num_batched_tokens),
        }

    def put_first(self, name: str, strategy: StrategyConfig) -> None:
        """One more strategy, before all others; one of that name that is there already stays, and is the first."""
        self.strategies = {name: strategy} | self.strategies

    def plain(self) -> list[Candidate]:
        """Every strategy in the engine as it is."""
        return [Candidate(name) for name in self.strategies]

    def neighbours(self, candidate: Candidate) -> list[Candidate]:
        """The candidate with one more setting changed, each way there is."""
        changed = dict(candidate.settings)
        return [
            Candidate(candidate.strategy, self._ordered(changed | {key: value}))
            for key, values in self._values_of(candidate.strategy).items()
            if key not in changed
            for value in values
        ]

    def all(self) -> Iterator[Candidate]:
        """The full grid."""
        for name in self.strategies:
            for chosen in product(*([None, *values] for values in self._values_of(name).values())):
                settings = zip(self.values, chosen, strict=True)
                yield Candidate(name, tuple((key, value) for key, value in settings if value is not None))

    def strategy(self, candidate: Candidate) -> StrategyConfig:
        """As a run is given it."""
        named, settings = self.strategies[candidate.strategy], dict(candidate.settings)
        rule = settings.pop("retention", None)
        if (
            rule is not None
        ):  # the engine's own order is none of ours: what decides then is not the engine alone
            named = replace(named, retention=rule, retention_params={}, kill_switch=False)
        offloads = settings.get("kv_offload_gib") or self._engine.kv_offload_gib
        if offloads and named.retention != Lru.name and self._engine.kv_offload_eviction == "lru":
            settings["kv_offload_eviction"] = "retention"  # else it loses whom the rule keeps
        return replace(named, engine=settings, label=candidate.label)

    def _values_of(self, strategy: str) -> dict[str, list[Any]]:
        """Of each setting the values that differ from what the strategy has in the engine as it is."""
        own = self.strategies[strategy].retention
        return self.values | {"retention": [rule for rule in self.values["retention"] if rule != own]}

    def _ordered(self, settings: dict[str, Any]) -> Settings:
        return tuple((key, settings[key]) for key in self.values if key in settings)


def takes_host_memory(engine: EngineConfig) -> bool:
    """Whether a simulation knows how fast blocks come from there."""
    return engine.sim is not None and engine.sim.hardware.host_bandwidth is not None


def _numbers(own: int | None, factors: list[float]) -> list[int]:
    """Of these factors the numbers that differ from the engine's own; none if vLLM chooses that itself."""
    if own is None:
        return []
    numbers = dict.fromkeys(max(1, round(own * factor)) for factor in factors)
    return [number for number in numbers if number != own]
