"""What a router knows of its replicas, and what it answers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ray_jobs.engines.routers.news import Block, News

if TYPE_CHECKING:  # it brings pyarrow, which a mistyped key need not wait for
    from ray_jobs.workload.trace import TraceRequest


@dataclass(slots=True)
class Known:
    """One replica as the router knows it: its last report, and what was sent to it since then."""

    requests: int = 0  # that had no whole answer, when it reported
    kv_share: float = 0.0  # of its KV cache that was in use
    sent: int = 0  # requests since then
    sent_tokens: int = 0  # their prompts'

    @property
    def queue(self) -> int:
        return self.requests + self.sent


class Router(ABC):
    """Chooses a replica for each request, once, when it arrives. `pool_tokens` is what one replica's KV cache holds."""

    name: ClassVar[str]
    source: ClassVar[str]
    looks: ClassVar[bool] = True  # at what it knows of the replicas
    hears: ClassVar[bool] = (
        False  # what happens at them, too: it is told whose blocks are which by `listen`, then `hear`s
    )

    def __init__(self, replicas: int, pool_tokens: int, seed: int):
        self.replicas, self.pool_tokens = replicas, pool_tokens
        self.random = random.Random(seed)

    @abstractmethod
    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        """The replica's number; `now` in seconds since the run's start."""

    def listen(self, block_size: int, blocks_of: Callable[[TraceRequest], Sequence[Block]]) -> None:
        """Before the first request: tokens in a block, and what the replicas call the full blocks of a prompt, in order."""
        raise NotImplementedError(f"{self.name} hears nothing")

    def hear(self, replica: int, news: Sequence[News]) -> None:
        """What happened at a replica since the last time."""
        raise NotImplementedError(f"{self.name} hears nothing")

    def shortest(self, known: Sequence[Known], among: Sequence[int] | None = None) -> int:
        """Whose queue is shortest, of equals one at random."""
        numbers = range(self.replicas) if among is None else among
        least = min(known[number].queue for number in numbers)
        return self.random.choice([number for number in numbers if known[number].queue == least])
