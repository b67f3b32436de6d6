"""Where the decisions of a replay first differ from those that a real engine recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.sim.clock import VirtualClock

DECISION = ("step", "requester", "victim", "source", "tokens_freed", "blocks_freed", "candidates")
COUNTS = (
    "executed", "recomputed", "cached", "cached_resume", "restored", "restored_resume", "preemptions", "output",
)  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """How far the simulated scheduler did what the real one had done."""

    steps: int
    preemptions: int
    difference: str | None  # the first one, in words; None if there is none


class RecordedClock(VirtualClock):
    """Stands where a recording's clock stood."""

    _last_end = 0.0

    def ended(self, step: Mapping[str, Any]) -> None:
        """Steps end in the order they began; those that overlap take their time from the end of the one before."""
        self._last_end = self.now = max(step["t"], self._last_end) + step["dur"]


def check_alike(
    events: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    column: str,
    ours: Mapping[str, Any],
) -> None:
    """Raises ValueError if the recording has no schedule, of which `column` is a part, or if its engine's facts are not
    `ours`."""
    if not steps or column not in steps[0]:
        raise ValueError("the recording has no schedule: record it with run.log_schedule=true")
    start = next(event for event in events if event["type"] == "run_start")
    for key, value in ours.items():
        if start[key] != value:
            raise ValueError(f"the recording's {key} is {start[key]!r}, the simulation's {value!r}")


def first_difference(
    recorded: Sequence[Mapping[str, Any]], replayed: Sequence[Mapping[str, Any]]
) -> str | None:
    for kind, names in (("preempt", DECISION), ("request", ("id", *COUNTS))):
        ours = [tuple(e[n] for n in names) for e in replayed if e["type"] == kind]
        theirs = [tuple(e[n] for n in names) for e in recorded if e["type"] == kind]
        for number, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            if one != other:
                return differ(kind, number, one, other)
        if len(ours) != len(theirs):
            return f"{len(theirs)} {kind} events recorded, {len(ours)} replayed"
    return None


def differ(kind: str, number: int, recorded: Any, replayed: Any) -> str:
    return f"{kind} {number}: recorded {recorded}, replayed {replayed}"


def preemptions(settings: AdapterSettings) -> int:
    return sum(event["type"] == "preempt" for event in read_events(settings.events_path))
