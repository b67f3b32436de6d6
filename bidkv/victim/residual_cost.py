"""The victim whose eviction really costs least: only what would be computed again counts."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.checks import check_at_least
from bidkv.request import FinishedRequest, RequestState
from bidkv.victim.base import VictimPolicy
from bidkv.victim.kept_share import KeptShare


class ResidualCost(VictimPolicy):
    """Fewest tokens to compute again; ties go to the last admitted, never to the requester.

    Those are the computed tokens that nobody shares, less the share that the prefix cache has kept for
    earlier victims. Who was preempted `max_preemptions` times goes only if there is nobody else.
    """

    name = "residual-cost"
    source = "lcf-guard, without what sharing and the prefix cache keep"
    evicts_requester = False

    def __init__(self, max_preemptions: int = 3):
        check_at_least(self.name, 1, max_preemptions=max_preemptions)
        self.max_preemptions = max_preemptions
        self.kept = KeptShare()

    def score(self, request: RequestState, now: float) -> float:
        """Minus the tokens to compute again."""
        own = request.computed_tokens if request.private_tokens is None else request.private_tokens
        return -own * (1.0 - self.kept.value)

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        return min(reversed(self._open(candidates)), key=lambda request: -self.score(request, now))

    def select_batch(
        self, candidates: Sequence[RequestState], needed_tokens: int, now: float
    ) -> list[RequestState]:
        """The cheapest single victim that frees enough, or else the cheapest per token, none of them in vain."""
        enough = [r for r in self._open(candidates) if self._frees(r) >= needed_tokens]
        if enough and needed_tokens > 0:
            return [self.select(enough, now)]
        victims = super().select_batch(candidates, needed_tokens, now)
        freed = sum(self._frees(victim) for victim in victims)
        for victim in sorted(victims, key=lambda request: self.score(request, now)):  # the costliest first
            if freed - self._frees(victim) >= needed_tokens:
                victims.remove(victim)
                freed -= self._frees(victim)
        return victims

    def observe(self, finished: FinishedRequest) -> None:
        self.kept.observe(finished)

    def _open(self, candidates: Sequence[RequestState]) -> Sequence[RequestState]:
        return [r for r in candidates if r.preemptions < self.max_preemptions] or candidates

    @staticmethod
    def _frees(request: RequestState) -> int:
        return request.computed_tokens if request.private_tokens is None else request.private_tokens
