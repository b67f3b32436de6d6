"""Traces in Ray's object store, each for as long as a block needs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import ray

from ray_jobs.workload.trace import Trace


class SharedTraces:
    """Counts by hash the blocks that still need a trace."""

    def __init__(self, needed: Iterable[Trace]):
        self._needed = Counter(trace.hash for trace in needed)
        self._references: dict[str, ray.ObjectRef] = {}

    def reference(self, trace: Trace) -> ray.ObjectRef:
        """The trace's place in the object store; it is put there on first use."""
        if trace.hash not in self._references:
            self._references[trace.hash] = ray.put(trace)
        return self._references[trace.hash]

    def left(self, trace: Trace) -> None:
        """One block is through with the trace; the last one lets it go."""
        self._needed[trace.hash] -= 1
        if not self._needed[trace.hash]:
            self._references.pop(trace.hash, None)
