"""A_min: admit and evict by the same lower bound of each output (arXiv 2508.14544)."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.request import FinishedRequest, RequestState
from bidkv.strategies.base import AdmissionPolicy, ScoredVictim, Strategy
from bidkv.strategies.lengths import LearnedLengths


class LowerBounds:
    """What an output is at least: what it has already, or the `share` quantile of finished ones like it.

    Before any are known it is one token: the algorithm asks for no more than a bound that holds.
    """

    def __init__(self, policy: str, share: float):
        if not 0 <= share < 1:
            raise BidValidationError(f"{policy}: share must be in [0, 1), got {share!r}")
        self.lengths, self._share = LearnedLengths(), share

    def of(self, request: RequestState) -> float:
        known = self.lengths.knows(request)
        return max(request.output_tokens, self.lengths.quantile(request, self._share) if known else 1)

    def observe(self, finished: FinishedRequest) -> None:
        self.lengths.observe(finished)


class AMinAdmission(AdmissionPolicy):
    """Smallest lower bound first, then arrival; preempted requests queue by theirs, which only grows."""

    name = "a-min"
    source = "A_min, arXiv 2508.14544"
    preempted_first = False

    def __init__(self, share: float = 0.05):
        self.bounds = LowerBounds(self.name, share)
        self.lengths = self.bounds.lengths

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (self.bounds.of(request), request.arrival)

    def observe(self, finished: FinishedRequest) -> None:
        self.bounds.observe(finished)


class AMinVictim(ScoredVictim):
    """Evicts the smallest lower bound; ties go to the last admitted."""

    name = "a-min"
    source = "A_min, arXiv 2508.14544"

    def __init__(self, share: float = 0.05):
        self.bounds = LowerBounds(self.name, share)
        self.lengths = self.bounds.lengths

    def score(self, request: RequestState, now: float) -> float:
        return -self.bounds.of(request)

    def observe(self, finished: FinishedRequest) -> None:
        self.bounds.observe(finished)


class AMinStrategy(Strategy):
    name = "a-min"
    admission_class = AMinAdmission
    victim_class = AMinVictim
