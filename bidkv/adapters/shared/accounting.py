"""Exact account of what each request cost: executed, recomputed, cached, and how long it waited."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bidkv.request import RequestState


@dataclass(slots=True)
class RequestAccount:
    """One request from its arrival to its end. Token counts are exact scheduler counts.

    With P prompt and O output tokens: executed = P + O - 1 + recomputed - cached - restored. Positions
    are counted from 0; `frontier` is the first one that was neither computed for this request nor
    supplied to it by a cache. Hits of the prefix cache up to the frontier (KV the request had before)
    are `cached_resume`, all others `cached`; KV that an engine loaded back from host memory is
    `restored_resume` or `restored` likewise. The identity needs a request that ended by itself; an
    aborted one may end before its last scheduled tokens count, and speculative decoding executes
    drafts that are rejected.
    """

    state: RequestState
    arrival_t: float
    input_t: float = 0.0  # when what it computes now arrived: the latest input of a streaming session
    true_output_tokens: int = 0  # shown to oracles only
    true_pause_s: float | None = None  # likewise; see `ClientFacts`
    pause_s: float | None = None  # what the client declared of it
    executed: int = 0
    recomputed: int = 0
    cached: int = 0
    cached_resume: int = 0
    restored: int = 0
    restored_resume: int = 0
    restored_from: int | None = None  # first position of what is being loaded from host memory
    frontier: int = 0
    reached: int = 0  # end of what was scheduled last
    stretch: int | None = (
        None  # where it was scheduled first since it started last; None while steps are counted
    )
    first_scheduled_t: float | None = None
    preempted_t: float | None = None  # since when it waits after a preemption
    resume_delays: list[float] = field(default_factory=list)

    def show_to(self, oracle: bool) -> None:
        """Shows or hides the true length."""
        self.state.true_output_tokens = self.true_output_tokens if oracle else None

    def scheduled(self, start: int, tokens: int, t: float) -> bool:
        """Counts `tokens` at positions from `start`; True if they are new decode tokens."""
        if start == self.frontier and start >= self.state.prompt_tokens and self.preempted_t is None:
            self.executed += tokens  # as nearly always
            self.frontier = self.reached = start + tokens
            return True
        if not self._starts(start, t) and start < self.reached == self.frontier:
            self.frontier = start  # drafts that were rejected: what takes their place is not computed again
        frontier = self.frontier
        self._count(start, start + tokens)
        return start >= frontier and start >= self.state.prompt_tokens

    def begin_stretch(self, start: int, t: float) -> None:
        """From here on it is scheduled without a gap, and counted when that ends: a step has nothing to do for it."""
        self._starts(start, t)
        self.stretch = start

    def end_stretch(self, computed: int) -> None:
        """`computed` tokens have been scheduled since the prompt's first. Does nothing where steps are counted."""
        if self.stretch is not None:
            self._count(self.stretch, computed)
            self.stretch = None

    def _starts(self, start: int, t: float) -> bool:
        """Whether it was scheduled for the first time, or the first time since a preemption."""
        if self.first_scheduled_t is None:
            self.first_scheduled_t = t
        elif self.preempted_t is not None:
            self.resume_delays.append(t - self.preempted_t)
            self.preempted_t = None
        else:
            return False
        self._hit(start)
        return True

    def _count(self, start: int, end: int) -> None:
        self.executed += end - start
        self.recomputed += max(0, min(end, self.frontier) - start)
        self.frontier, self.reached = max(self.frontier, end), end

    def preempted(self, t: float) -> None:
        self.preempted_t = t

    def record(
        self, *, prompt: int, output: int, preemptions: int, reason: str | None, finish_t: float
    ) -> dict[str, Any]:
        """The `request` event, without its type; the arguments are what the engine says at the end."""
        first = self.first_scheduled_t
        waits = list(self.resume_delays)
        if self.preempted_t is not None:  # it ended while it waited
            waits.append(finish_t - self.preempted_t)
        return {
            "id": self.state.request_id,
            "prompt": prompt,
            "output": output,
            "max_tokens": self.state.max_tokens,
            "executed": self.executed,
            "recomputed": self.recomputed,
            "cached": self.cached,
            "cached_resume": self.cached_resume,
            "restored": self.restored,
            "restored_resume": self.restored_resume,
            "preemptions": preemptions,
            "preempted_s": sum(waits),
            "resume_delays": self.resume_delays,
            "queued_s": (finish_t if first is None else first) - self.arrival_t,
            "arrival_t": self.arrival_t,
            "first_scheduled_t": first,
            "finish_t": finish_t,
            "reason": reason,
        }

    def _hit(self, hits: int) -> None:
        on_device = hits if self.restored_from is None else min(hits, self.restored_from)
        known, known_on_device = min(hits, self.frontier), min(on_device, self.frontier)
        self.cached_resume += known_on_device
        self.cached += on_device - known_on_device
        self.restored_resume += known - known_on_device
        self.restored += hits - known - (on_device - known_on_device)
        self.restored_from = None
        self.frontier = max(self.frontier, hits)
