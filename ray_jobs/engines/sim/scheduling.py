"""What scheduling a step costs the engine's thread, and how much of it the device has to wait for.

The step times that a calibration was fitted to have stock vLLM's own scheduling in them, as far as it was not hidden.
So what is charged besides is what a strategy looks at beyond stock, and stock's own part only says how much
of the step in flight is left to hide it behind: nothing is charged twice, and stock costs nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from tracking.errors import require


@dataclass(frozen=True)
class Counts:
    """What one call of schedule() had to do. Counted, never timed: the same in every run."""

    running: int = 0  # requests that are scheduled
    prefix_blocks: int = 0  # found in the prefix cache by vLLM itself
    ordered: int = 0  # 1 if a strategy orders a queue in which somebody waits
    candidates: int = 0  # waiting requests that it asked about
    lookups: int = 0  # blocks that it looked up in the prefix cache for them
    states: int = 0  # running requests, in a step in which it asked about them
    summed: int = 0  # running requests that it summed over, each time it did
    keys: int = 0  # waiting requests whose key it asked for again


STOCK_TERMS = {"step_s": None, "request_s": "running", "prefix_block_s": "prefix_blocks"}
STRATEGY_TERMS = {
    "ordered_s": "ordered", "candidate_s": "candidates", "lookup_s": "lookups", "state_s": "states",
    "summed_s": "summed", "key_s": "keys",
}  # fmt: skip
TERMS = STOCK_TERMS | STRATEGY_TERMS
"""A coefficient's name, and the count that it is for; None is once a step."""


@dataclass
class SchedulingCost:
    """CPU seconds on the engine's thread, linear in the counts of a step. `scripts/bench_schedule.py --fit` fits it."""

    name: str = "none"
    step_s: float = 0.0  # vLLM's own, once a step: schedule(), and update_from_output() of the step before
    request_s: float = 0.0  # the same for each request that runs
    prefix_block_s: float = 0.0  # for each block of a waiting prompt that vLLM finds in its prefix cache
    ordered_s: float = 0.0  # a strategy's, in each step in which its queue has somebody
    candidate_s: float = 0.0  # for each waiting request that it asks about
    lookup_s: float = 0.0  # for each block that it looks up in the prefix cache for them
    state_s: float = 0.0  # for each running request, in a step in which it asks about them
    summed_s: float = 0.0  # for each running request that it sums over, each time
    key_s: float = 0.0  # for each waiting request whose place it works out again
    scale: float = 1.0  # times all of these: a CPU that takes half as long is 0.5
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name not in ("name", "origin"):
                value = getattr(self, one.name)
                require(value >= 0, f"engine.sim.scheduling.{one.name}", value, ">= 0")

    def stock_seconds(self, counts: Counts) -> float:
        """vLLM's own part."""
        return self.scale * self._sum(STOCK_TERMS, counts)

    def strategy_seconds(self, counts: Counts) -> float:
        """What a strategy adds."""
        return self.scale * self._sum(STRATEGY_TERMS, counts)

    def _sum(self, terms: dict[str, str | None], counts: Counts) -> float:
        return sum(
            getattr(self, name) * (1 if count is None else getattr(counts, count))
            for name, count in terms.items()
        )


class EngineThread:
    """The thread that schedules, on virtual time."""

    def __init__(self, cost: SchedulingCost):
        self._cost = cost
        self._free_t = 0.0

    def schedule(self, counts: Counts, now: float, device_free_t: float) -> tuple[float, float]:
        """Seconds that scheduling took, and how many of them the device and the next outputs wait for.

        It begins at `now`, or when scheduling the step before is done; a device that is busy until
        `device_free_t` hides what is done by then.
        """
        stock, added = self._cost.stock_seconds(counts), self._cost.strategy_seconds(counts)
        begin = max(now, self._free_t)
        self._free_t = begin + stock + added
        hidden = max(0.0, device_free_t - begin - stock)
        return stock + added, max(0.0, added - hidden)
