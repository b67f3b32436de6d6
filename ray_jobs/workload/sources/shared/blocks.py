"""Prompts described by the hash ids of their blocks, for sessions with hundreds of thousands of tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_jobs.workload.lengths import scaled
from ray_jobs.workload.sources.shared.base import TokenMaker


@dataclass(frozen=True, eq=False)
class BlockPrompt:
    """Blocks of `block` tokens, the last of which may be cut. Equal ids of one `name` mean equal tokens.

    `ids` are below `total`, the number of blocks that `name` has; `width` is the length of a block
    before scaling, so that a scaled block is the front of the whole one.
    """

    name: tuple[str | int, ...]
    total: int
    width: int
    ids: np.ndarray
    length: int
    block: int

    def __len__(self) -> int:
        return self.length

    def cut(self, length: int) -> BlockPrompt:
        return replace(self, ids=self.ids[: -(-length // self.block)], length=min(length, self.length))

    def scaled(self, scale: float) -> BlockPrompt:
        """Every block scaled by itself, so that what was shared stays shared."""
        block = scaled(self.block, scale)
        rest = self.length - (len(self.ids) - 1) * self.block
        last = min(block, scaled(rest, scale))
        return replace(self, block=block, length=(len(self.ids) - 1) * block + last)

    def tokens(self, maker: TokenMaker) -> np.ndarray:
        width = max(self.width, self.block)
        table = maker.segment(self.name, self.total * width, keep=True).reshape(self.total, width)
        return table[self.ids, : self.block].ravel()[: self.length]
