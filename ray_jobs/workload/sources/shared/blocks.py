"""Prompts described by the hash ids of their blocks, for sessions with hundreds of thousands of tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_jobs.workload.lengths import scaled
from ray_jobs.workload.sources.shared.base import TokenMaker

PAGE = 4096  # blocks whose tokens are drawn together where it is not known how many there are


@dataclass(frozen=True, eq=False)
class BlockPrompt:
    """Blocks of `block` tokens, the last of which may be cut. Equal ids of one `name` mean equal tokens.

    `ids` are below `total`, the number of blocks that `name` has, None if it may have any number; `width` is the length of a block
    before scaling, so that a scaled block is the front of the whole one.
    """

    name: tuple[str | int, ...]
    total: int | None
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
        if self.total is not None:
            return self._table(maker, self.name, self.total)[self.ids].ravel()[: self.length]
        pages, found = self.ids // PAGE, np.empty((len(self.ids), self.block), dtype=np.int32)
        for page in np.unique(pages):
            here = pages == page
            found[here] = self._table(maker, (*self.name, int(page)), PAGE)[self.ids[here] % PAGE]
        return found.ravel()[: self.length]

    def _table(self, maker: TokenMaker, name: tuple[str | int, ...], rows: int) -> np.ndarray:
        """The tokens of `rows` blocks, a row each."""
        width = max(self.width, self.block)
        return maker.segment(name, rows * width, keep=True).reshape(rows, width)[:, : self.block]
