"""How long an output will be: as declared, as learned from finished requests, or as it really is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections import deque
from itertools import accumulate

from bidkv.errors import BidValidationError
from bidkv.request import FinishedRequest, RequestState


class Lengths(ABC):
    """Estimates of a request's whole output in tokens, at least one more than it has."""

    @abstractmethod
    def mean(self, request: RequestState) -> float:
        """The expected output of a request, given what it generated so far."""

    def quantile(self, request: RequestState, share: float) -> float:
        """The length that an output like this one stays below with probability `share`."""
        return self.mean(request)

    def observe(self, finished: FinishedRequest) -> None:  # noqa: B027 (most policies learn nothing)
        """Learns from a complete output."""


class DeclaredLengths(Lengths):
    """Believes `max_tokens`; 512 where nothing is declared."""

    def mean(self, request: RequestState) -> float:
        return max(request.output_tokens + 1, request.max_tokens or 512)


class TrueLengths(Lengths):
    """What only an oracle knows. Raises `BidValidationError` where it is not told."""

    def mean(self, request: RequestState) -> float:
        if request.true_output_tokens is None:
            raise BidValidationError(f"true_output_tokens of request {request.request_id!r} is not known")
        return max(request.output_tokens + 1, request.true_output_tokens)


class Sample:
    """The latest `window` lengths of one kind of request, sorted and in the order they came."""

    def __init__(self, window: int):
        self.sorted: list[int] = []
        self._order: deque[int] = deque()
        self._window = window
        self._sums: list[int] | None = None  # of the shortest n, made when asked for

    def add(self, tokens: int) -> None:
        insort(self.sorted, tokens)
        self._order.append(tokens)
        self._sums = None
        if len(self._order) > self._window:
            del self.sorted[bisect_left(self.sorted, self._order.popleft())]

    def mean_above(self, tokens: int) -> float | None:
        """Mean of the lengths above `tokens`; None if there are none."""
        first = bisect_right(self.sorted, tokens)
        count = len(self.sorted) - first
        if not count:
            return None
        if self._sums is None:
            self._sums = list(accumulate(self.sorted, initial=0))
        return (self._sums[-1] - self._sums[first]) / count

    def quantile_above(self, tokens: int, share: float) -> int | None:
        """Of the lengths above `tokens`, the one that `share` of them stay below; None if there are none."""
        first = bisect_right(self.sorted, tokens)
        count = len(self.sorted) - first
        return self.sorted[first + min(count - 1, int(share * count))] if count else None


class LearnedLengths(Lengths):
    """Conditional mean and quantiles given `max_tokens` and the prompt's power of two, learned online.

    A kind seen fewer than `enough` times borrows from all requests with the same `max_tokens`, they
    from all requests, since clients may each declare what their context leaves, and those from what is
    declared. An output longer than all that were seen gets a quarter of the rest.
    """

    def __init__(self, enough: int = 20, window: int = 512):
        self.enough, self._window = enough, window
        self._declared = DeclaredLengths()
        self._samples: dict[tuple[int, ...], Sample] = {}

    def observe(self, finished: FinishedRequest) -> None:
        for kind in self._kinds(finished):
            if kind not in self._samples:
                self._samples[kind] = Sample(self._window)
            self._samples[kind].add(finished.output_tokens)

    def mean(self, request: RequestState) -> float:
        sample = self._sample(request)
        found = None if sample is None else sample.mean_above(request.output_tokens)
        return self._within_declared(request, sample, found)

    def quantile(self, request: RequestState, share: float) -> float:
        sample = self._sample(request)
        found = None if sample is None else sample.quantile_above(request.output_tokens, share)
        return self._within_declared(request, sample, found)

    def knows(self, request: RequestState) -> bool:
        """Whether enough requests like this one have finished."""
        return self._sample(request) is not None

    def _sample(self, request: RequestState) -> Sample | None:
        for kind in self._kinds(request):
            sample = self._samples.get(kind)
            if sample is not None and len(sample.sorted) >= self.enough:
                return sample
        return None

    def _within_declared(self, request: RequestState, sample: Sample | None, found: float | None) -> float:
        declared = self._declared.mean(request)
        if sample is None:
            return declared
        if found is None:
            return request.output_tokens + max(1.0, (declared - request.output_tokens) / 4)
        return min(found, declared)

    @staticmethod
    def _kinds(request: RequestState | FinishedRequest) -> tuple[tuple[int, ...], ...]:
        return (request.max_tokens, request.prompt_tokens.bit_length()), (request.max_tokens,), ()


KINDS: dict[str, type[Lengths]] = {"declared": DeclaredLengths, "learned": LearnedLengths}


def make_lengths(policy: str, kind: str) -> Lengths:
    """The estimator of that name, for `policy`; raises `BidValidationError` on another name."""
    if kind not in KINDS:
        raise BidValidationError(f"{policy}: lengths must be one of {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind]()


def check_at_least(policy: str, minimum: float, **values: float) -> None:
    """Raises `BidValidationError` naming the first parameter below `minimum`, or that is no number."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= minimum:
            raise BidValidationError(f"{policy}: {key} must be >= {minimum}, got {value!r}")
