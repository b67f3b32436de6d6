"""Least computed first: the victim with the least KV to lose, which may be the same one again and again."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class LeastComputedFirst(ScoredVictim):
    """Evicts the fewest computed tokens; ties go to the last admitted, never to the requester.

    One request may be preempted again and again (11 times in a run of 6,000): it comes back with the least.
    """

    name = "lcf"
    source = "vLLM RFC 54644, PR 53723"
    evicts_requester = False

    def score(self, request: RequestState, now: float) -> int:
        return -request.computed_tokens
