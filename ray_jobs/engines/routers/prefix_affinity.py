from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ray_jobs.engines.routers.base import Known, Router
from tracking.errors import require

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest


class PrefixAffinity(Router):
    """Where most of the prompt's beginning was sent before; where that is less than `match` of it, whoever was sent least.

    While queues differ by more than `imbalance`, the shorter of two that are drawn. Nothing that was sent is forgotten.
    Ray Serve's rule and thresholds; its tree compares letters, this one pieces of `PIECE` tokens.
    """

    name = "prefix-affinity"
    source = "Ray Serve LLM's PrefixCacheAffinityRouter"

    def __init__(
        self, replicas: int, pool_tokens: int, seed: int, match: float = 0.1, imbalance: float = math.inf
    ):
        require(0 <= match <= 1, "engine.router.params.match", match, "from 0 to 1")
        require(imbalance >= 0, "engine.router.params.imbalance", imbalance, ">= 0")
        super().__init__(replicas, pool_tokens, seed)
        self._match, self._imbalance = match, imbalance
        self._sent = PrefixTree(replicas)

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        chosen = self.shortest(known, self._candidates(request.prompt_token_ids, known))
        self._sent.add(request.prompt_token_ids, chosen)
        return chosen

    def _candidates(self, prompt: np.ndarray, known: Sequence[Known]) -> list[int]:
        queues = [one.queue for one in known]
        if max(queues) - min(queues) > self._imbalance:
            return self.random.sample(range(self.replicas), 2)
        matched, owners = self._sent.longest(prompt)
        return owners if matched >= self._match * len(prompt) else self._sent.smallest()


class PrefixTree:
    """Which beginnings of prompts were sent to which replica."""

    PIECE = 16  # tokens

    def __init__(self, replicas: int):
        self._children: dict[tuple[int, bytes], int] = {}  # a node by its parent and the tokens between
        self._owners: list[set[int]] = [set(range(replicas))]
        self._sizes = [0] * replicas

    def longest(self, prompt: np.ndarray) -> tuple[int, list[int]]:
        """How many tokens of it were sent before, and to whom."""
        node = matched = 0
        for piece in self._pieces(prompt):
            child = self._children.get((node, piece))
            if child is None:
                break
            node, matched = child, matched + self.PIECE
        return min(matched, len(prompt)), sorted(self._owners[node])

    def add(self, prompt: np.ndarray, replica: int) -> None:
        node = 0
        for piece in self._pieces(prompt):
            child = self._children.get((node, piece))
            if child is None:
                child = self._children[node, piece] = len(self._owners)
                self._owners.append(set())
            node = child
            if replica not in self._owners[node]:
                self._owners[node].add(replica)
                self._sizes[replica] += len(piece)

    def smallest(self) -> list[int]:
        """To whom the least was sent."""
        least = min(self._sizes)
        return [number for number, size in enumerate(self._sizes) if size == least]

    def _pieces(self, prompt: np.ndarray) -> Iterator[bytes]:
        for start in range(0, len(prompt), self.PIECE):
            yield prompt[start : start + self.PIECE].tobytes()
