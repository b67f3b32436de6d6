"""One record per engine step: what it scheduled, how long it took, how full the cache was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.events import JsonLines


class StepLog:
    """Writes a step when its output has been processed.

    `dur` runs from the step's `schedule()` entry, or from the end of the step before it where
    steps overlap (async scheduling), to the end of its `update_from_output()`. Steps come back in
    the order they were scheduled; open records wait in a dictionary keyed by what stands for the step
    (vLLM: its scheduler output). `finished` counts the records that should be in the file.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time):
        self._file = JsonLines(path)
        self._clock = clock
        self._open: dict[int, dict[str, Any]] = {}
        self._last_end = 0.0
        self.finished = 0

    def begin(self, output: Any, record: dict[str, Any]) -> None:
        self._open[id(output)] = record

    def note(self, output: Any, facts: dict[str, Any]) -> None:
        """Adds `facts` to the record of a step whose output is about to be processed."""
        if id(output) in self._open:
            self._open[id(output)] |= facts

    def finish(self, output: Any) -> None:
        record = self._open.pop(id(output), None)
        if record is None:  # scheduled before this log was opened
            return
        end = self._clock()
        record["dur"] = end - max(record["t"], self._last_end)
        self._last_end = end
        self._file.write(record)
        self.finished += 1

    def close(self) -> None:
        self._file.close()
