"""What an output is at least: A_min admits and evicts by it."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.lengths.estimates import LearnedLengths
from bidkv.request import FinishedRequest, RequestState


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
