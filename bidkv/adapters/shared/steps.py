"""One record per engine step: what it scheduled, how long it took, how full the cache was."""

from __future__ import annotations

from typing import Any

from bidkv.adapters.shared.events import JsonLines


class StepLog:
    """Writes steps whose output has been processed, `AT_ONCE` at a time: between two steps of a model each costs
    several times as much, since nothing of it is in the processor's caches then. A killed process loses the last few.

    `dur` runs from the step's `schedule()` entry, or from the end of the step before it where
    steps overlap (async scheduling), to the end of its `update_from_output()`. Steps come back in
    the order they were scheduled; open records wait in a dictionary keyed by what stands for the step
    (vLLM: its scheduler output). `finished` counts the records that should be in the file.
    """

    AT_ONCE = 16

    def __init__(self, path: str):
        self._file = JsonLines(path)
        self._waiting: list[dict[str, Any]] = []
        self._open: dict[int, dict[str, Any]] = {}
        self._last_end = 0.0
        self.finished = 0

    def begin(self, output: Any, record: dict[str, Any]) -> None:
        self._open[id(output)] = record

    def note(self, output: Any, facts: dict[str, Any]) -> None:
        """Adds `facts` to the record of a step whose output is about to be processed."""
        if id(output) in self._open:
            self._open[id(output)] |= facts

    def finish(self, output: Any, end: float) -> None:
        """Its output has been processed, at `end`."""
        record = self._open.pop(id(output), None)
        if record is None:  # scheduled before this log was opened
            return
        record["dur"] = end - max(record["t"], self._last_end)
        self._last_end = end
        self._waiting.append(record)
        self.finished += 1
        if len(self._waiting) == self.AT_ONCE:
            self._write()

    def close(self) -> None:
        self._write()
        self._file.close()

    def _write(self) -> None:
        for record in self._waiting:
            self._file.write(record)
        self._waiting.clear()
