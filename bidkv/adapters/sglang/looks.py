"""Why nobody more starts, by what SGLang said when it went through its waiting queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang.srt.managers.schedule_policy import AddReqResult

NOBODY: Mapping[str, str] = {}
LASTING = ("behind", "policy", "memory")
"""What holds on while SGLang does not look again, since nobody has left."""


class QueueLook:
    """What one round showed. SGLang goes through the queue until it refuses somebody, and says memory (`NO_TOKEN`) or
    another limit of the prefill (`OTHER`); whom it leaves out it does not offer."""

    def __init__(self, scheduler: Any):
        self._scheduler = scheduler
        self._may_leave_out = scheduler.enable_lora or self._loads
        self._last: tuple[str, Mapping[str, str]] = ("intake", NOBODY)
        self.begin()

    def begin(self) -> None:
        """A round begins."""
        self._looked = False
        self._refused: tuple[str, str] | None = None  # the first who was, and why
        self._used_up: str | None = None  # by one who started
        self._line: list[Any] = []
        self._offered: set[str] = set()

    def looks(self, queue: list[Any]) -> None:
        """SGLang goes through the queue, in this order."""
        self._looked = True
        if self._may_leave_out:
            self._line = list(queue)

    def offered(self, req: Any, verdict: Any, started: bool) -> None:
        """SGLang's verdict on one; None: the policy answered alone."""
        if self._may_leave_out:
            self._offered.add(req.rid)
        if started:
            if verdict is not AddReqResult.CONTINUE:
                self._used_up = "memory" if verdict is AddReqResult.NO_TOKEN else "budget"
        elif self._refused is None:
            if verdict is None:
                self._refused = req.rid, "policy"
            else:
                self._refused = req.rid, "memory" if verdict is AddReqResult.NO_TOKEN else "budget"

    def cause(self, running: int, full: bool, preempted: bool) -> tuple[str, Mapping[str, str]]:
        """Why nobody more starts than `running`, and who waits for a cause of its own. `full` is SGLang's own mark that
        nobody is to be tried until somebody leaves."""
        scheduler = self._scheduler
        if not scheduler.waiting_queue:
            self._last = "intake", NOBODY
        elif preempted:
            self._last = "memory", NOBODY
        elif self._looked:
            self._last = self._of_look(running)
        elif scheduler.get_num_allocatable_reqs(running) <= 0:
            self._last = "seat", NOBODY
        elif not (full and self._last[0] in LASTING):
            self._last = "behind" if full else "deferred", NOBODY
        return self._last

    def paused(self) -> tuple[str, Mapping[str, str]]:
        self._last = "paused", NOBODY
        return self._last

    def _of_look(self, running: int) -> tuple[str, Mapping[str, str]]:
        scheduler, left_out = self._scheduler, self._left_out()
        if self._refused is not None:
            first, why = self._refused
            if why == "budget":
                return why, left_out
            return "behind" if why == "memory" else why, {first: why, **left_out}
        if scheduler.get_num_allocatable_reqs(running) <= 0:
            return "seat", left_out
        if self._used_up == "memory":
            first = next((r.rid for r in scheduler.waiting_queue if r.rid not in left_out), None)
            return "behind", left_out if first is None else {first: "memory", **left_out}
        if len(left_out) == len(scheduler.waiting_queue):
            return "intake", left_out
        return "budget", left_out

    @property
    def _loads(self) -> bool:
        """Whether a request may have to wait for KV that is kept elsewhere."""
        return any(
            getattr(self._scheduler, name, False) for name in ("enable_hicache_storage", "enable_lmcache")
        )

    def _left_out(self) -> Mapping[str, str]:
        """Who was not offered though somebody behind was, or nobody: for want of its LoRA adapter, or of its KV."""
        if not self._line:
            return NOBODY
        last = max((n for n, req in enumerate(self._line) if req.rid in self._offered), default=-1)
        if last < 0 and self._refused is None and self._used_up is None:
            last = len(self._line)
        waiting = {req.rid for req in self._scheduler.waiting_queue}
        return {
            req.rid: self._own_cause(req)
            for req in self._line[:last]
            if req.rid in waiting and req.rid not in self._offered
        }

    def _own_cause(self, req: Any) -> str:
        """Where there are both, one whose adapter some other uses now lacks its KV."""
        scheduler = self._scheduler
        if not self._loads:
            return "lora"
        running = {other.lora_id for other in scheduler.running_batch.reqs}
        return "lora" if scheduler.enable_lora and req.lora_id not in running else "load"
