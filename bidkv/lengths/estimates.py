"""How long an output will be: as declared, as learned from finished requests, or as it really is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from bidkv.checks import check_at_least
from bidkv.errors import BidValidationError
from bidkv.lengths.seen import SeenLengths
from bidkv.request import FinishedRequest, RequestState

PRIOR = 512
"""Output tokens that are expected where nothing is known."""


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
    """Believes `max_tokens`; `prior` tokens where nothing is declared."""

    def __init__(self, prior: int = PRIOR):
        self.prior = prior

    def mean(self, request: RequestState) -> float:
        return max(request.output_tokens + 1, request.max_tokens or self.prior)


class TrueLengths(Lengths):
    """What only an oracle knows. Raises `BidValidationError` where it is not told."""

    def mean(self, request: RequestState) -> float:
        if request.true_output_tokens is None:
            raise BidValidationError(f"true_output_tokens of request {request.request_id!r} is not known")
        return max(request.output_tokens + 1, request.true_output_tokens)


class LearnedLengths(Lengths):
    """Conditional mean and quantiles of what finished requests like this one had (see `SeenLengths`).

    Until `enough` of them are known, `prior` more tokens are expected, whatever was generated so far, but
    never more than was declared: a declaration is a bound, and where a client makes none an engine fills in
    what the context leaves. An output longer than all that were seen gets a quarter of what it may still
    have, or as much again if that is less (at least `prior`).
    """

    def __init__(self, enough: int = 20, window: int = 512, prior: int = PRIOR):
        self.prior = prior
        self._samples = SeenLengths(enough, window)

    def observe(self, finished: FinishedRequest) -> None:
        self._samples.add(finished.max_tokens, finished.prompt_tokens, finished.output_tokens)

    def mean(self, request: RequestState) -> float:
        # A step may ask for each request that runs: this is kept short.
        output, declared = request.output_tokens, request.max_tokens
        sample, like = self._samples.find(declared, request.prompt_tokens)
        if sample is None:
            return self._unknown(output, declared)
        found = sample.mean_above(output)
        if found is None:
            return self._longer_than_all(output, declared)
        return self._bounded(found, like, output, declared)

    def quantile(self, request: RequestState, share: float) -> float:
        output, declared = request.output_tokens, request.max_tokens
        sample, like = self._samples.find(declared, request.prompt_tokens)
        if sample is None:
            return self._unknown(output, declared)
        found = sample.quantile_above(output, share)
        if found is None:
            return self._longer_than_all(output, declared)
        return self._bounded(found, like, output, declared)

    def knows(self, request: RequestState) -> bool:
        """Whether enough requests like this one have finished."""
        return self._samples.find(request.max_tokens, request.prompt_tokens)[0] is not None

    def adopt(self, other: LearnedLengths) -> None:
        """Starts from what `other` has seen, as when a strategy takes over from another."""
        self._samples = other._samples.copy(self._samples.enough)

    def _unknown(self, output: int, declared: int) -> float:
        expected = output + self.prior
        return max(output + 1, min(expected, declared)) if declared > 0 else expected

    def _longer_than_all(self, output: int, declared: int) -> float:
        again = max(self.prior, output)
        return output + max(1.0, min(again, (declared - output) / 4)) if declared > 0 else output + again

    def _bounded(self, found: float, like: bool, output: int, declared: int) -> float:
        if not like and found < output + self.prior:
            found = output + self.prior  # who declared less could not show more
        if 0 < declared < found:
            return max(output + 1, declared)
        return found


def learned_by(*policies: Any) -> LearnedLengths | None:
    """What the first of these policies that learns lengths has learned, in its attribute `lengths`."""
    learned = (getattr(policy, "lengths", None) for policy in policies)
    return next((lengths for lengths in learned if isinstance(lengths, LearnedLengths)), None)


def teach(learned: LearnedLengths, *policies: Any) -> None:
    """Gives what was learned to those of these policies that learn lengths, each its own copy."""
    for policy in policies:
        own = learned_by(policy)
        if own is not None:
            own.adopt(learned)


KINDS: dict[str, type[DeclaredLengths] | type[LearnedLengths]] = {
    "declared": DeclaredLengths,
    "learned": LearnedLengths,
}


def make_lengths(policy: str, kind: str, prior: int = PRIOR) -> Lengths:
    """The estimator of that name, for `policy`; raises `BidValidationError` on another name or a prior below 1."""
    if kind not in KINDS:
        raise BidValidationError(f"{policy}: lengths must be one of {', '.join(KINDS)}, got {kind!r}")
    check_at_least(policy, 1, prior=prior)
    return KINDS[kind](prior=prior)
