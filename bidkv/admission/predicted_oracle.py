"""token-seconds with predicted lengths of a set quality: what a better predictor would be worth."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from random import Random
from statistics import NormalDist

from bidkv.admission.sizes import SizedAdmission
from bidkv.errors import BidValidationError
from bidkv.lengths.estimates import Lengths, TrueLengths
from bidkv.request import RequestState

NORMAL = NormalDist()


class NoisyLengths(Lengths):
    """The true lengths through noise that leaves a Kendall rank correlation of `tau`.

    The rank of a length among all seen so far becomes a normal deviate z, rho z + sqrt(1 - rho^2) e
    with rho = sin(pi tau / 2) its prediction, and the length of that rank the answer. The noise e of
    a request depends on its id and the seed alone.
    """

    def __init__(self, tau: float, seed: int):
        self._rho = math.sin(math.pi * tau / 2)
        self._seed = seed
        self._true = TrueLengths()
        self._seen: list[float] = []
        self._predicted: dict[str, float] = {}

    def mean(self, request: RequestState) -> float:
        known = self._predicted.get(request.request_id)
        return (
            self._predicted.setdefault(request.request_id, self._predict(request)) if known is None else known
        )

    def forget(self, request_id: str) -> None:
        self._predicted.pop(request_id, None)

    def _predict(self, request: RequestState) -> float:
        length = self._true.mean(request)
        insort(self._seen, length)
        rank = (bisect_left(self._seen, length) + 0.5) / len(self._seen)
        noise = Random(f"{self._seed} {request.request_id}").gauss()
        z = self._rho * NORMAL.inv_cdf(rank) + math.sqrt(1 - self._rho**2) * noise
        return self._seen[min(len(self._seen) - 1, int(NORMAL.cdf(z) * len(self._seen)))]


class PredictedOracle(SizedAdmission):
    """Smallest predicted s first, then arrival. `tau` 1 is the truth, 0 no information."""

    name = "predicted_oracle"
    source = "token-seconds; the noise is a Gaussian copula"
    oracle = True

    def __init__(self, tau: float = 0.6, seed: int = 0):
        if not 0 <= tau <= 1:
            raise BidValidationError(f"{self.name}: tau must be in [0, 1], got {tau!r}")
        self.lengths = NoisyLengths(tau, seed)

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (self.size(request), request.arrival)

    def forget(self, request_id: str) -> None:
        self.lengths.forget(request_id)
