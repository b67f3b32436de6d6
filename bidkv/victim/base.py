"""The second axis of a strategy: which running request is preempted when memory runs out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from bidkv.policy import Policy
from bidkv.request import RequestState


class VictimPolicy(Policy):
    """Chooses which running request gives up its KV cache when an allocation fails.

    `evicts_requester` says whether the request whose allocation failed may be chosen while there is
    anyone else.
    """

    evicts_requester: ClassVar[bool] = True

    @abstractmethod
    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        """The victim. `candidates` is not empty and in admission order, last admitted last."""

    @property
    def batches(self) -> bool:
        """Whether the policy looks at a shortfall as a whole: engines then ask `select_batch` for its next victim."""
        return type(self).select_batch is not VictimPolicy.select_batch

    def select_batch(
        self, candidates: Sequence[RequestState], needed_tokens: int, now: float
    ) -> list[RequestState]:
        """Victims in order of choice until `needed_tokens` KV tokens are freed or nobody is left."""
        left, victims, freed = list(candidates), [], 0
        while left and freed < needed_tokens:
            victim = self.select(left, now)
            left.remove(victim)
            victims.append(victim)
            freed += victim.computed_tokens
        return victims


class ScoredVictim(VictimPolicy):
    """A policy that evicts the highest score; ties go to the last admitted."""

    @abstractmethod
    def score(self, request: RequestState, now: float) -> Any:
        """A number or a tuple of numbers; the highest is evicted."""

    def scores(self, candidates: Sequence[RequestState], now: float) -> list[Any]:
        """The score of each candidate. An engine's step waits for it, so a policy may have a faster way."""
        score = self.score
        return [score(request, now) for request in candidates]

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        latest_first = self.scores(candidates, now)[::-1]
        return candidates[-1 - latest_first.index(max(latest_first))]


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
