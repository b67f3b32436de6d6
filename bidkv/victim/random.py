"""A random victim: what a choice without information does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from bidkv.request import RequestState
from bidkv.victim.base import VictimPolicy


class RandomVictim(VictimPolicy):
    """Evicts any candidate with equal chance, reproducibly for a `seed`."""

    name = "random"
    source = "BidKV seed baseline"

    def __init__(self, seed: int = 0):
        self._random = Random(seed)

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        return self._random.choice(candidates)
