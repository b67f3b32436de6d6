"""A strategy and two of its axes: who is admitted first, and who is preempted. The third is `bidkv.retention`."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from bidkv.errors import BidValidationError
from bidkv.policy import Policy
from bidkv.request import FinishedRequest, PoolState, RequestState
from bidkv.retention.base import Owner, Retention
from bidkv.retention.lru import Lru


class AdmissionPolicy(Policy):
    """Order of the waiting queue, and who must wait though it would fit.

    `preempted_first`: preempted requests go in front, as in vLLM; False: their key decides.
    `resorts`: keys change while a request waits, and the queue is sorted again in every step.
    `backfill`: where the first in line does not fit, how many behind it are tried (0: none).
    `max_overtaken`: whoever was overtaken by so many later requests goes next, and nobody passes it.
    `alone_after`: who passes joins a step in which a prompt is computed anyway, or waits for so many steps
    without, no longer than `alone_after_s` seconds, and for no more than `alone_each` steps for each that runs:
    those are who the step takes longer for.
    `headroom`: the share of the pool that an admission must leave free while anything runs.
    `reclaims`: those that passed the first in line give their memory back when it would fit with that, and has waited
    so for `grace` of the time that it had waited by then, or `grace_s` seconds if that is longer.
    `passing`: a first in line that does not fit is passed for no longer than this share of the time that it had waited
    by then, or `passing_s` seconds if that is longer; where it `reclaims`, one that needs the share `large` of the pool
    is passed until it gets memory back. Unless it is infinite, nobody passes a first in line that fits.
    `patience`: a first in line that fits is held back no longer than this share of the time it had to wait until then.
    `sees_cache`: who waits comes with `cached_tokens`, and `resting` says who left what in the prefix cache: the
    conversations that wait for their clients, whose turn ended last first.
    """

    source: ClassVar[str] = "this project"
    preempted_first: bool = True
    resorts: bool = False
    backfill: int = 0
    max_overtaken: int | None = None
    alone_after: int = 0
    alone_after_s: float = math.inf
    alone_each: float = math.inf
    headroom: float = 0.0
    reclaims: bool = False
    grace: float = 0.0
    grace_s: float = 0.0
    large: float = 0.0
    passing: float = math.inf
    passing_s: float = 0.0
    patience: float = math.inf
    sees_cache: ClassVar[bool] = False
    resting: Callable[[], Iterable[Owner]] = staticmethod(tuple)

    @abstractmethod
    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        """Sort key of a waiting request; the smallest is admitted first, of equal ones who joined first. Must not change
        unless `resorts`."""

    def arrived(self, request: RequestState, now: float) -> None:
        """A new request joined the queue; asked for its key right after."""

    def admits(self, request: RequestState, running: Sequence[RequestState], pool: PoolState) -> bool:
        """Whether the request may start now. Not asked when nothing runs, nor where it would not fit."""
        return pool.free_tokens - pool.needed_tokens >= self.reserve(running, pool)

    def reserve(self, running: Sequence[RequestState], pool: PoolState) -> float:
        """KV tokens that whoever starts beside `running` must leave free."""
        return 0.0

    def passes_alone(self, steps: int) -> bool:
        """Whether who passes may start by itself, `steps` after the last step in which a prompt was computed."""
        pool = self.pool
        return (
            steps >= self.alone_after
            or steps >= self.alone_each * pool.running
            or steps * pool.seconds_per_step >= self.alone_after_s
        )

    @property
    def asks(self) -> bool:
        """Whether `admits` has anything to say."""
        own = type(self)
        return own.admits is not AdmissionPolicy.admits or own.reserve is not AdmissionPolicy.reserve

    @cached_property
    def only_reserves(self) -> bool:
        """Whether `reserve` is all that `admits` asks for. An engine then asks once a step for all it looks at."""
        return type(self).admits is AdmissionPolicy.admits

    @property
    def gates(self) -> bool:
        """Whether anything but a full pool can keep a request waiting."""
        return self.headroom > 0 or self.asks


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


class Strategy:
    """A named triple of an admission, a victim and a retention policy. Subclass it to add your own.

    Keyword arguments go to the victim policy, `admission_params` and `retention_params` to the others:
    `BidKVStrategy(completion_weight=1.0)`. Without a `retention_class` the engine keeps what it keeps by itself.
    """

    name: ClassVar[str]
    admission_class: ClassVar[type[AdmissionPolicy]]
    victim_class: ClassVar[type[VictimPolicy]]
    retention_class: ClassVar[type[Retention]] = Lru

    def __init__(
        self,
        admission_params: Mapping[str, Any] | None = None,
        retention_params: Mapping[str, Any] | None = None,
        **params: Any,
    ):
        self.admission = self._made(self.admission_class, "admission parameters", admission_params or {})
        self.victim = self._made(self.victim_class, "parameters", params)
        self.retention = self._made(self.retention_class, "retention parameters", retention_params or {})

    def _made(self, policy: type, what: str, params: Mapping[str, Any]) -> Any:
        try:
            return policy(**params)
        except TypeError as error:
            known = [name for name in inspect.signature(policy).parameters if name not in ("args", "kwargs")]
            there = f"; {policy.name} has {', '.join(known)}" if known else f"; {policy.name} has none"
            raise BidValidationError(
                f"strategy {self.name!r}: bad {what} {dict(params)}: {error}{there}"
            ) from error

    @property
    def policies(self) -> tuple[AdmissionPolicy, VictimPolicy, Retention]:
        return self.admission, self.victim, self.retention

    @property
    def oracle(self) -> bool:
        """Whether any of the three sees what a real server cannot know."""
        return any(policy.oracle for policy in self.policies)

    @property
    def needs_cache(self) -> bool:
        """Whether a part of it goes by a prefix cache: engines without one, or that tell nothing of it, refuse it."""
        return self.admission.sees_cache or not self.retention.stock

    def bind(self, pool: PoolState) -> None:
        """Gives all policies the engine's pool."""
        for policy in self.policies:
            policy.pool = pool

    def observe(self, finished: FinishedRequest) -> None:
        """Tells all policies."""
        for policy in self.policies:
            policy.observe(finished)

    def forget(self, request_id: str) -> None:
        """Tells all policies."""
        for policy in self.policies:
            policy.forget(request_id)

    def select_victims(
        self, running: Sequence[RequestState], needed_tokens: int, now: float = 0.0
    ) -> list[RequestState]:
        """Victims in order of choice until `needed_tokens` KV tokens are freed or nobody is left."""
        return self.victim.select_batch(running, needed_tokens, now)

    def __repr__(self) -> str:
        kept = "" if self.retention.stock else f"+{self.retention.name}"
        return f"{type(self).__name__}({self.admission.name}+{self.victim.name}{kept})"
