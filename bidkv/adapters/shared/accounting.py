"""Exact account of what each request cost: executed, recomputed, cached, and how long it waited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bidkv.request import RequestState


def numbers(facts: Any) -> Mapping[str, Any]:
    """What a client declared about a request, as far as it is numbers; anything else is left out.

    `max_tokens` is what a policy sees as declared, `true_output_tokens` what an oracle sees,
    `arrival` and `deadline` are `time.time()` seconds, `turn` is the request's place in its session.
    """
    if not isinstance(facts, dict):
        return {}
    return {k: v for k, v in facts.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def session_facts(facts: Any) -> dict[str, Any]:
    """`session` and `turn` of a `RequestState`, where the client declared them."""
    session = facts.get("session") if isinstance(facts, dict) else None
    turn = numbers(facts).get("turn")
    return {
        "session": session if isinstance(session, str) else None,
        "turn": turn if isinstance(turn, int) else None,
    }


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
    true_output_tokens: int = 0  # shown to oracles only
    executed: int = 0
    recomputed: int = 0
    cached: int = 0
    cached_resume: int = 0
    restored: int = 0
    restored_resume: int = 0
    restored_from: int | None = None  # first position of what is being loaded from host memory
    frontier: int = 0
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
            self.frontier = start + tokens
            return True
        if self.first_scheduled_t is None:
            self.first_scheduled_t = t
            self._hit(start)
        elif self.preempted_t is not None:
            self.resume_delays.append(t - self.preempted_t)
            self.preempted_t = None
            self._hit(start)
        frontier, end = self.frontier, start + tokens
        self.executed += tokens
        if start < frontier:
            self.recomputed += min(end, frontier) - start
        if end > frontier:
            self.frontier = end
        return start >= frontier and start >= self.state.prompt_tokens

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
