"""The two axes of a strategy: who is admitted first, and who is preempted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from bidkv.errors import BidValidationError
from bidkv.request import RequestState


class AdmissionPolicy(ABC):
    """Order of the waiting queue. Preempted requests go in front of it, as in vLLM."""

    name: ClassVar[str]
    preempted_first: ClassVar[bool] = True  # False: the key alone decides (engines that allow it)

    @abstractmethod
    def key(self, request: RequestState) -> tuple[float, ...]:
        """Sort key of a waiting request; the smallest is admitted first. Must not change while it waits."""


class VictimPolicy(ABC):
    """Chooses which running request gives up its KV cache when an allocation fails.

    `oracle` policies see `true_output_tokens` and end in `_oracle`. `evicts_requester` says
    whether the request whose allocation failed may be chosen while there is anyone else.
    """

    name: ClassVar[str]
    source: ClassVar[str]  # where the rule comes from, in a few words
    oracle: ClassVar[bool] = False
    evicts_requester: ClassVar[bool] = True

    @abstractmethod
    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        """The victim. `candidates` is not empty and in admission order, last admitted last."""


class ScoredVictim(VictimPolicy):
    """A policy that evicts the highest score; ties go to the last admitted."""

    @abstractmethod
    def score(self, request: RequestState, now: float) -> Any:
        """Anything that compares with `>=`; the highest is evicted."""

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        victim = candidates[0]
        best = self.score(victim, now)
        for request in candidates[1:]:
            score = self.score(request, now)
            if score >= best:
                victim, best = request, score
        return victim


def eligible_victims(
    running: Sequence[RequestState], requester_index: int | None, policy: VictimPolicy
) -> Sequence[RequestState]:
    """The candidates a policy chooses from, out of `running` (in admission order).

    The requester is left out unless it is the last one: evicting it from the middle would end
    the scheduler's step and stall everyone behind it, a cost no policy asks for. A policy with
    `evicts_requester = False` never sees it, unless it runs alone.
    """
    if requester_index is None or len(running) == 1:
        return running
    if policy.evicts_requester and requester_index == len(running) - 1:
        return running
    return [*running[:requester_index], *running[requester_index + 1 :]]


class Strategy:
    """A named pair of an admission and a victim policy. Subclass it to add your own.

    Keyword arguments go to the victim policy: `BidKVStrategy(completion_weight=1.0)`.
    """

    name: ClassVar[str]
    admission_class: ClassVar[type[AdmissionPolicy]]
    victim_class: ClassVar[type[VictimPolicy]]

    def __init__(self, **params: Any):
        self.admission = self.admission_class()
        try:
            self.victim = self.victim_class(**params)
        except TypeError as error:
            raise BidValidationError(f"strategy {self.name!r}: bad parameters {params}: {error}") from error

    def select_victims(
        self, running: Sequence[RequestState], needed_tokens: int, now: float = 0.0
    ) -> list[RequestState]:
        """Victims in order of choice until `needed_tokens` KV tokens are freed or nobody is left."""
        left, victims, freed = list(running), [], 0
        while left and freed < needed_tokens:
            victim = self.victim.select(left, now)
            left.remove(victim)
            victims.append(victim)
            freed += victim.computed_tokens
        return victims

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.admission.name}+{self.victim.name})"
