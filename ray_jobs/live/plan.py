"""Which block has the strategy: pairs of blocks, and a coin for the order within each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Block:
    """`begin` and `end` in seconds since the experiment's start; `strategy` False is the engine's own choices."""

    number: int
    strategy: bool
    begin: float
    end: float

    @property
    def pair(self) -> int:
        return self.number // 2


def plan_blocks(pairs: int, block_s: float, seed: int) -> list[Block]:
    """Two blocks a pair, one of each kind, without a gap; the same seed gives the same order."""
    first = np.random.default_rng(seed).integers(0, 2, pairs).astype(bool)
    kinds = [kind for strategy in first for kind in (bool(strategy), not strategy)]
    return [Block(n, kind, n * block_s, (n + 1) * block_s) for n, kind in enumerate(kinds)]
