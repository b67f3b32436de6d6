"""Records of a simulated run: the adapter's, without what only a stopwatch knows."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bidkv.adapters.shared.events import RunLog

WALL_CLOCK = frozenset({"select_ns", "hook_ns", "write_ns", "observe_ns", "retention_ns"})
"""Left out of the event log, so that two runs write the same bytes. `counters` keeps their sums."""

_NUMBERS = {
    "step": "q", "t": "d", "prefill_tokens": "q", "decode_tokens": "q", "prefill_reqs": "q",
    "decode_reqs": "q", "context_tokens": "q", "prefill_context": "q", "running": "q", "waiting": "q",
    "used_blocks": "q", "cached_free_blocks": "d", "preempted": "q", "hol_blocked": "b",
}  # fmt: skip
_SCHEDULE = ("scheduled", "added", "added_t", "finished", "looked_at", "round", "added_rounds")


class VirtualRunLog(RunLog):
    """Events on the virtual clock."""

    def _write(self, record: Mapping[str, Any]) -> None:
        super()._write({key: value for key, value in record.items() if key not in WALL_CLOCK})


class StepColumns:
    """The steps of a run in memory, a typed array per column: about 125 bytes a step.

    Takes the place of the adapter's step file. `latest` is the record of the step scheduled last.
    """

    def __init__(self, path: str | None):
        self._columns = {name: array(code) for name, code in _NUMBERS.items()}
        self._dur = array("d")
        self._schedule_s, self._delay_s = array("d"), array("d")
        self._schedule: dict[str, list[Any]] = {}  # where the schedule is logged, what the engine says of it
        self._ends = 0.0
        self.latest: dict[str, Any] = {}

    def begin(self, output: Any, record: dict[str, Any]) -> None:
        if record["cached_free_blocks"] is None:
            record["cached_free_blocks"] = float("nan")
        for name, column in self._columns.items():
            column.append(record[name])
        self._schedule_s.append(float("nan"))
        self._delay_s.append(0.0)
        if "scheduled" in record:
            for name in _SCHEDULE:
                if name in record:
                    self._schedule.setdefault(name, []).append(record[name])
        self.latest = record

    def charge(self, seconds: float, delay: float) -> None:
        """What scheduling the latest step took by the model, and how much of it the device waited for."""
        self._schedule_s[-1], self._delay_s[-1] = seconds, delay

    def note(self, output: Any, facts: dict[str, Any]) -> None:
        """What ends when is the simulation's own doing, so its records say no more of it."""

    def finish(self, output: Any, end: float) -> None:
        """Steps end in the order they began."""
        self._dur.append(end - max(self._columns["t"][len(self._dur)], self._ends))
        self._ends = end

    @property
    def finished(self) -> int:
        return len(self._dur)

    def close(self) -> None:
        """Nothing is open."""

    def frame(self) -> pd.DataFrame:
        """The step table of a RunResult. `schedule_us` is modelled, NaN where scheduling takes no time."""
        done = len(self._dur)
        table = pd.DataFrame({name: column[:done] for name, column in self._columns.items()})
        table["hol_blocked"] = table["hol_blocked"].astype(bool)
        table.insert(2, "schedule_us", 1e6 * np.array(self._schedule_s[:done]))
        table.insert(3, "schedule_delay_s", self._delay_s[:done])
        table.insert(4, "dur", self._dur)
        for name, values in self._schedule.items():
            table[name] = values[:done]
        return table
