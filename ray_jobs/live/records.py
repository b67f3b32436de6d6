"""A server's events file (`--bidkv-events`), read as it grows."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bidkv.adapters.shared.clock import steady_time
from bidkv.adapters.shared.session import COMPLETE
from ray_jobs.live.served import Requests, Served

SKIPPED = b'{"type":"preempt"'  # the longest records, and the most; `type` stands first in each
COLUMNS = ("arrival_t", "finish_t", "prompt", "output")
OFF_S = 10.0  # what times may be off without moving requests into other blocks


class Records(Served):
    """From its end at the time this is made: what was before is another's."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = steady_time):
        self._path, self._clock = Path(path), clock
        found = os.stat(path)
        self._file, self._place = (found.st_dev, found.st_ino), found.st_size
        self._columns = {name: array("d") for name in COLUMNS}
        self._whole = array("b")
        self._trouble: str | None = None
        self._polled = clock()

    def poll(self) -> None:
        try:
            with open(self._path, "rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_dev, found.st_ino) != self._file or found.st_size < self._place:
                    self._trouble = f"its records were cut or replaced: {self._path} must only grow"
                    return
                file.seek(self._place)
                data = file.read()
        except OSError as error:
            self._trouble = f"its records cannot be read any more: {error}"
            return
        lines, _, _unfinished = data.rpartition(b"\n")
        self._place += len(lines) + 1 if lines else 0
        now = self._clock()
        for line in lines.splitlines():
            if line.startswith(SKIPPED):
                continue
            try:
                self._take(json.loads(line), now)
            except (ValueError, KeyError, TypeError):
                self._trouble = f"{self._path} has a line that is no record of it: {line[:80]!r}"
        self._polled = now

    def trouble(self) -> str | None:
        return self._trouble

    def requests(self) -> Requests:
        return Requests(
            *(np.array(self._columns[name]) for name in COLUMNS), np.array(self._whole, dtype=bool)
        )

    def values(self, begin: float, end: float) -> dict[str, float]:
        return values_of(self.requests(), begin, end)

    def _take(self, record: dict[str, Any], now: float) -> None:
        t = record["finish_t"] if record["type"] == "request" else record["t"]
        off = t - min(max(t, self._polled), now)  # it was written between two looks
        if abs(off) > OFF_S:
            self._trouble = (
                f"its clock is {off:+,.0f} s off: it was set while the server ran; start the server again"
            )
        handle: Callable[[dict[str, Any]], None] | None = getattr(self, f"_on_{record['type']}", None)
        if handle is not None:
            handle(record)

    def _on_request(self, record: dict[str, Any]) -> None:
        for name in COLUMNS:
            self._columns[name].append(record[name])
        self._whole.append(record["reason"] in COMPLETE)

    def _on_kill_switch(self, record: dict[str, Any]) -> None:
        self.killed = record["on"]

    def _on_run_start(self, record: dict[str, Any]) -> None:
        if self.killed is not None:  # the first that it says is our doing
            self._trouble = f"it was started again, or given strategy {record['strategy']} by somebody else"
        self.killed = record["kill_switch"]

    def _on_strategy_error(self, record: dict[str, Any]) -> None:
        self._trouble = f"the strategy raised {record['error']}; the engine chose in its place"

    def _on_control_error(self, record: dict[str, Any]) -> None:
        self._trouble = f"it refused the control file: {record['error']}"


def values_of(requests: Requests, begin: float, end: float) -> dict[str, float]:
    """Of those that arrived from `begin` to `end`, and the tokens that were ended in that time."""
    some = requests.arrived(begin, end)
    if not len(some.arrival):
        return {}
    return {
        "requests": float(len(some.arrival)),
        "e2e_mean_s": float(some.e2e.mean()),
        "completion_rate": float(some.whole.mean()),
        "throughput_tok_s": requests.tokens_per_s(begin, end),
    }
