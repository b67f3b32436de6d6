"""Who finds most of its prompt cached goes first; who would push out conversations that are about to return waits a while."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from bidkv.admission.base import AdmissionPolicy
from bidkv.checks import check_at_least
from bidkv.errors import BidValidationError
from bidkv.request import FinishedRequest, PoolState, RequestState


class KeptFirst(AdmissionPolicy):
    """Who finds at least the share `cached` of its prompt in the cache goes first, all others in order of arrival behind.

    Of those the first starts if that leaves in the cache what resting conversations have: those whose latest turn
    ended no longer ago than `keep` * the seconds that computing theirs again would take. It is held back for no longer than
    `hold` * the seconds of computing its own prompt, as far as that is not cached and no longer than a usual one, for each
    request that waits or runs: who is pushed out is computed again, and all of them wait for that. Then it goes before
    those that are cached.
    Both are rules of rent: memory is held for a return, and a request is held back for it, in proportion to what
    would be lost. So as many sessions live as fit and are quick, one that pauses for longer loses its place, and what
    is small or cached hardly waits. Nobody is held back while nothing else runs; nor, with `idle_starts`, while nobody
    else waits and no prompt is being computed: the device would have nothing better to do. Where host memory takes what leaves
    the device little is lost by leaving, and all go in order of arrival (measured: RESULTS.md).
    """

    name = "kept-first"
    source = "session-level admission as in CONCUR (2601.22705) and CacheTTL (2511.02230), by ski rental instead of limits"
    sees_cache: ClassVar[bool] = True
    resorts = True
    WEIGHT = 1 / 64  # of the latest request that finished

    def __init__(self, hold: float = 0.7, keep: float = 4.0, cached: float = 0.5, idle_starts: bool = True):
        check_at_least(self.name, 0, hold=hold, keep=keep, cached=cached)
        if not isinstance(idle_starts, bool):
            raise BidValidationError(f"{self.name}: idle_starts must be true or false, got {idle_starts!r}")
        self.hold, self.keep, self.cached, self.idle_starts = hold, keep, cached, idle_starts
        self._here: set[str] = set()  # who waits or runs
        self._usual = 0.0  # tokens of a prompt, smoothed over those that finished

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (0.0 if self._goes(request, now) else 1.0, request.arrival)

    def arrived(self, request: RequestState, now: float) -> None:
        self._here.add(request.request_id)

    def observe(self, finished: FinishedRequest) -> None:
        weight = self.WEIGHT if self._usual else 1.0
        self._usual += weight * (finished.prompt_tokens - self._usual)

    def forget(self, request_id: str) -> None:
        self._here.discard(request_id)

    def admits(self, request: RequestState, running: Sequence[RequestState], pool: PoolState) -> bool:
        if self._goes(request, pool.now):
            return True
        to_compute = sum(max(0, other.prompt_tokens - other.computed_tokens) for other in running)
        if self.idle_starts and not to_compute and len(self._here) <= len(running) + 1:
            return True  # nobody else waits
        left = pool.free_tokens - pool.needed_tokens - to_compute
        for owner in self.resting():
            if pool.now - owner.used <= self.keep * owner.tokens * pool.compute_s_per_token:
                left -= owner.tokens
                if left < 0:
                    return False
        return True

    def _goes(self, request: RequestState, now: float) -> bool:
        """Whether it takes little that it does not have, or was held back for long enough."""
        if self.pool.host_memory:
            return True
        cached = request.cached_tokens or 0
        if cached >= self.cached * request.prompt_tokens:
            return True
        lacking = min(request.prompt_tokens - cached, self._usual or math.inf)
        seconds = lacking * self.pool.compute_s_per_token
        return now - request.arrival >= self.hold * len(self._here) * seconds
