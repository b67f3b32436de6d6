"""How a choice reaches vLLM."""

from __future__ import annotations

import math
from typing import Any

from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.request import Request


class Mark:
    """Makes the next preemption take one certain request.

    vLLM's priority branch preempts the running request with the largest `(priority, arrival_time)` and
    undoes whatever that request was scheduled in the step. So between a failed `allocate_slots` and the
    `_preempt_request` that follows, and only there, the scheduler's policy says PRIORITY and the victim
    carries the largest priority. Without a mark vLLM takes its own choice.
    """

    def __init__(self, scheduler: Any):
        self._scheduler = scheduler
        self._marked: tuple[Request, int] | None = None  # and its real priority

    def set(self, victim: Request) -> None:
        self._marked = (victim, victim.priority)
        victim.priority = math.inf
        self._scheduler.policy = SchedulingPolicy.PRIORITY

    def withdraw(self) -> Request | None:
        """Back to vLLM's own policy and priorities; returns the request that was marked."""
        self._scheduler.policy = SchedulingPolicy.FCFS
        if self._marked is None:
            return None
        victim, victim.priority = self._marked
        self._marked = None
        return victim
