from __future__ import annotations

from collections.abc import Iterable, Sequence

from ray_jobs.engines.routers.news import Block


class PrefixOwners:
    """Which replicas have which blocks."""

    def __init__(self, replicas: int):
        self._replicas = replicas
        self._owners: dict[Block, int] = {}  # a bit for each replica

    def add(self, replica: int, blocks: Iterable[Block]) -> None:
        owners, bit = self._owners, 1 << replica
        for block in blocks:
            owners[block] = owners.get(block, 0) | bit

    def remove(self, replica: int, blocks: Iterable[Block]) -> None:
        """What it does not have is passed over."""
        owners, others = self._owners, ~(1 << replica)
        for block in blocks:
            left = owners.get(block, 0) & others
            if left:
                owners[block] = left
            else:
                owners.pop(block, None)

    def clear(self, replica: int) -> None:
        self.remove(replica, list(self._owners))

    def depths(self, blocks: Sequence[Block]) -> list[int]:
        """Of each replica, how many of `blocks` it has, from the first on without a gap."""
        depths = [0] * self._replicas
        left = (1 << self._replicas) - 1
        owners = self._owners
        for depth, block in enumerate(blocks):
            still = left & owners.get(block, 0)
            if still != left:
                _set(depths, left ^ still, depth)
                left = still
                if not left:
                    return depths
        _set(depths, left, len(blocks))
        return depths


def _set(depths: list[int], replicas: int, depth: int) -> None:
    while replicas:
        last = replicas & -replicas
        depths[last.bit_length() - 1] = depth
        replicas ^= last
