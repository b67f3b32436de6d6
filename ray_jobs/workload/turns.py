"""When the turns of a conversation can be sent: as answers to those before them come in."""

from __future__ import annotations

from collections.abc import Sequence

from ray_jobs.workload.trace import TraceRequest


class Turns:
    """Which requests of a trace wait for which answers. Requests are named by their place in the trace."""

    def __init__(self, requests: Sequence[TraceRequest]):
        self._requests = requests
        self._children: dict[str, list[int]] = {}
        self._missing: dict[int, int] = {}  # answers that a request still waits for
        self._ready_t: dict[int, float] = {}
        for place, request in enumerate(requests):
            for parent in request.parents:
                self._children.setdefault(parent, []).append(place)
            if request.parents:
                self._missing[place] = len(request.parents)

    def first(self) -> list[int]:
        """Those that wait for no answer, in order of arrival."""
        return [place for place in range(len(self._requests)) if place not in self._missing]

    def answered(self, request_id: str, now: float) -> list[tuple[float, int]]:
        """An answer was complete at `now`: which requests it was the last one for, and when each is due.

        None before its `arrival_s`: the turns of a recorded chat come when they came.
        """
        due = []
        for place in self._children.get(request_id, ()):
            request = self._requests[place]
            think = request.think_time_s if request.parents[0] == request_id else 0.0
            self._ready_t[place] = max(self._ready_t.get(place, request.arrival_s), now + think)
            self._missing[place] -= 1
            if not self._missing[place]:
                due.append((max(now, self._ready_t.pop(place)), place))
        return due
