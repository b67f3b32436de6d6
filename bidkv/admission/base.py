"""The first axis of a strategy: who leaves the waiting queue first, and who must wait though it would fit."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import ClassVar

from bidkv.owner import Owner
from bidkv.policy import Policy
from bidkv.request import PoolState, RequestState


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
