"""Arrival order with a head start for small requests (Yu and Scully, arXiv 2404.08826)."""

from __future__ import annotations

import math
from collections import deque

from bidkv.admission.sizes import SizedAdmission
from bidkv.checks import check_at_least
from bidkv.errors import BidValidationError
from bidkv.request import RequestState

SMALLEST = 1e-12  # seconds; a request of no size at all would be infinitely early


GAMMAS = ("auto", "relative")


def boosted(arrival: float, size: float, gamma: float) -> float:
    """arrival + ln(1 - e^(-gamma * size)) / gamma: near `arrival` for a large request, earlier for a small one."""
    return arrival + math.log(-math.expm1(-gamma * max(size, SMALLEST))) / gamma


def decay_rate(sizes: list[float], rate: float, lowest: float, highest: float) -> float:
    """The gamma > 0 with gamma = rate * (E[e^(gamma S)] - 1), within [lowest, highest].

    It is the rate at which the tail of the work in an M/G/1 queue decays. An overloaded queue has
    none: `lowest`.
    """
    mean = sum(sizes) / len(sizes)
    if rate * mean >= 1:
        return lowest

    def excess(gamma: float) -> float:
        return rate * sum(math.expm1(min(gamma * size, 50.0)) for size in sizes) / len(sizes) - gamma

    low, high = lowest, highest
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return low


class BoostRate:
    """gamma as a number; or from the load, learned from the last `window` arrivals.

    "auto" solves gamma = lambda (E[e^(gamma S)] - 1). "relative" is `relative` / E[S]: the head start
    then grows with the requests' size, whatever the load. Both start at 1 per second.
    """

    WINDOW, EVERY, ENOUGH = 500, 16, 30
    LOWEST, HIGHEST = 1e-3, 1e3

    def __init__(self, policy: str, gamma: float | str, relative: float):
        if gamma not in GAMMAS and (isinstance(gamma, bool | str) or not gamma > 0):
            raise BidValidationError(
                f"{policy}: gamma must be > 0 or one of {', '.join(GAMMAS)}, got {gamma!r}"
            )
        check_at_least(policy, 1e-9, relative=relative)
        self._fixed = None if isinstance(gamma, str) else float(gamma)
        self._auto, self._relative = gamma == "auto", relative
        self._seen: deque[tuple[float, float]] = deque(maxlen=self.WINDOW)  # arrival, size
        self._arrivals, self.value = 0, self._fixed or 1.0

    def arrived(self, arrival: float, size: float) -> None:
        if self._fixed is not None:
            return
        self._seen.append((arrival, size))
        self._arrivals += 1
        if len(self._seen) < self.ENOUGH or self._arrivals % self.EVERY:
            return
        sizes = [size for _, size in self._seen]
        span = self._seen[-1][0] - self._seen[0][0]
        if not self._auto:
            self.value = self._relative * len(sizes) / max(sum(sizes), SMALLEST)
        elif span > 0:
            self.value = decay_rate(sizes, (len(sizes) - 1) / span, self.LOWEST, self.HIGHEST)


class Boost(SizedAdmission):
    """Smallest arrival + ln(1 - e^(-gamma s)) / gamma first, s as in `token-seconds`.

    gamma -> 0 is shortest first, gamma -> infinity arrival order. The key never changes while a request waits.
    """

    name = "boost"
    source = "Yu and Scully, arXiv 2404.08826, with KV token-seconds as size"

    def __init__(self, gamma: float | str = 1.0, relative: float = 0.12, lengths: str = "declared"):
        super().__init__(lengths)
        self.rate = BoostRate(self.name, gamma, relative)

    def arrived(self, request: RequestState, now: float) -> None:
        self.rate.arrived(request.arrival, self.size(request))

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (boosted(request.arrival, self.size(request), self.rate.value),)
