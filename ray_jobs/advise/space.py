"""Candidates: a strategy with settings of the engine, and which of them are neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

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
        changes = ",".join(f"{key}={value:g}" for key, value in self.settings)
        return f"{self.strategy}[{changes}]" if changes else self.strategy

    @property
    def plain(self) -> Candidate:
        """The same strategy in the engine as it is."""
        return Candidate(self.strategy)


class Space:
    """All candidates for one engine.

    Factors of `space` become numbers of the engine's; values that it cannot have are left out.
    """

    def __init__(self, config: SpaceConfig, engine: EngineConfig):
        self.strategies = config.strategies
        self.values: dict[str, list[Any]] = {
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
            for key, values in self.values.items()
            if key not in changed
            for value in values
        ]

    def all(self) -> Iterator[Candidate]:
        """The full grid."""
        for name in self.strategies:
            for chosen in product(*([None, *values] for values in self.values.values())):
                settings = zip(self.values, chosen, strict=True)
                yield Candidate(name, tuple((key, value) for key, value in settings if value is not None))

    def strategy(self, candidate: Candidate) -> StrategyConfig:
        """As a run is given it."""
        named = self.strategies[candidate.strategy]
        return replace(named, engine=dict(candidate.settings), label=candidate.label)

    def _ordered(self, settings: dict[str, Any]) -> Settings:
        return tuple((key, settings[key]) for key in self.values if key in settings)


def _numbers(own: int | None, factors: list[float]) -> list[int]:
    """Of these factors the numbers that differ from the engine's own; none if vLLM chooses that itself."""
    if own is None:
        return []
    numbers = dict.fromkeys(max(1, round(own * factor)) for factor in factors)
    return [number for number in numbers if number != own]
