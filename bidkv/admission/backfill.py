"""Arrival order that lets a smaller request pass a first one that does not fit, a bounded number of times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from bidkv.admission.base import AdmissionPolicy
from bidkv.checks import check_at_least
from bidkv.errors import BidValidationError
from bidkv.lengths.estimates import PRIOR, LearnedLengths, Lengths
from bidkv.lengths.growth import Growth
from bidkv.request import FinishedRequest, PoolState, RequestState


class Backfill(AdmissionPolicy):
    """First come, first served; but memory that the first in line cannot use goes to one who can.

    Of the `depth` requests behind it the first that fits starts, in a step that computes a prompt anyway
    or after `alone_after` steps without one (no longer than `alone_after_s`, nor than `alone_each` steps for each that
    runs): that keeps the tail of latency,
    since passers are fewer than memory would allow, and saves steps that all who run wait for. Whoever was
    overtaken by `max_overtaken` later ones is not passed again. A first in line gets the memory of those that
    passed it, when it would have fitted with that for `grace` of its wait (at least `grace_s`): they are preempted
    and go back to their places. One that needs the share `large` of the pool is passed until then, any other for
    no longer than `passing` of its wait (at least `passing_s`) after it did not fit. Whoever starts must leave free
    `headroom` (a share of the pool) and `growth` (a share of the tokens that the running ones are expected to add,
    learned from finished requests, `prior` before any); a first in line that fits is held back for no more than
    `patience` of its wait, and nobody passes it.
    """

    name = "backfill"
    source = "backfilling of batch queues (Lifka 1995; Mu'alem and Feitelson 2001), with room to grow"
    lengths_class: ClassVar[type[Lengths]] = LearnedLengths

    def __init__(
        self,
        depth: int = 64,
        max_overtaken: int = 40,
        headroom: float = 0.01,
        growth: float = 0.05,
        alone_after: int = 32,
        alone_after_s: float = 0.4,
        alone_each: float = 2.0,
        reclaims: bool = True,
        grace: float = 0.35,
        grace_s: float = 2.0,
        large: float = 0.35,
        passing: float = 0.1,
        passing_s: float = 1.0,
        patience: float = 0.25,
        prior: int = PRIOR,
    ):
        check_at_least(self.name, 1, depth=depth, max_overtaken=max_overtaken, prior=prior)
        check_at_least(
            self.name,
            0,
            headroom=headroom,
            growth=growth,
            alone_after=alone_after,
            alone_after_s=alone_after_s,
            alone_each=alone_each,
            grace=grace,
            grace_s=grace_s,
            large=large,
            passing=passing,
            passing_s=passing_s,
            patience=patience,
        )
        if not isinstance(reclaims, bool):
            raise BidValidationError(f"{self.name}: reclaims must be true or false, got {reclaims!r}")
        if headroom >= 1:
            raise BidValidationError(f"{self.name}: headroom must be below 1, got {headroom}")
        self.backfill, self.max_overtaken = depth, max_overtaken
        self.headroom, self.growth = headroom, growth
        self.alone_after, self.alone_after_s, self.alone_each = alone_after, alone_after_s, alone_each
        self.large, self.passing, self.passing_s = large, passing, passing_s
        self.reclaims, self.grace, self.grace_s, self.patience = reclaims, grace, grace_s, patience
        self.lengths = self._make_lengths(prior)
        self._growth = Growth(self.lengths)

    def _make_lengths(self, prior: int) -> Lengths:
        if self.lengths_class is LearnedLengths:
            return LearnedLengths(prior=prior)
        if prior != PRIOR:
            raise BidValidationError(
                f"{self.name}: prior={prior} has no effect, it knows the lengths; leave it out"
            )
        return self.lengths_class()

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return ()  # in the order of joining

    def reserve(self, running: Sequence[RequestState], pool: PoolState) -> float:
        return self.growth * self._growth.of(running, pool.step)

    def forget(self, request_id: str) -> None:
        self._growth.forget(request_id)

    def observe(self, finished: FinishedRequest) -> None:
        self.lengths.observe(finished)
