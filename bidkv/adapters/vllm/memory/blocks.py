"""Reads vLLM's KV block manager: who owns what, and what is free."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence, Set
from typing import Any

from bidkv.adapters.vllm.memory.demand import Demand
from bidkv.adapters.vllm.memory.sharing import SharedBlocks


class KVBlocks:
    """A view of one `KVCacheManager`. Counts are in blocks, over all KV cache groups."""

    SCAN_BLOCKS = 256  # a pool larger than this is scanned for what is cached only every few steps

    def __init__(self, manager: Any, demand: Demand):
        self._manager = manager
        self.needed = demand.exact
        self._pool = manager.block_pool
        self._groups = manager.coordinator.single_type_managers
        self.block_size: int = tokens_per_block(self._groups)
        self.prefix_caching: bool = bool(manager.enable_caching)
        self.total: int = self._pool.num_gpu_blocks
        self.usable: int = self._pool.num_gpu_blocks - 1  # one is vLLM's null block
        self._scan_period = max(1, self._pool.num_gpu_blocks // self.SCAN_BLOCKS)
        self._scans = 0
        self.shared: SharedBlocks | None = None  # else who holds what is counted when somebody asks

    def keep_count(self) -> None:
        """From now on knows how many blocks are shared, if the layout is one that `SharedBlocks` follows."""
        (group, *others) = self._groups
        if self.prefix_caching and not others and type(group).__name__ == "FullAttentionManager":
            self.shared = SharedBlocks(self._manager, group)

    def free(self) -> int:
        return self._pool.get_num_free_blocks()

    def held(self, request_id: str) -> tuple[int, int]:
        """Blocks a request holds, and how many of them nobody else holds."""
        (total,), (private,) = self.held_by([request_id])
        return total, private

    def held_by(self, request_ids: Sequence[str]) -> tuple[list[int], list[int]]:
        """The same of several requests: all totals, and all private counts."""
        if self.shared is None and (self.prefix_caching or len(self._groups) > 1):
            counts = [self._count(request_id) for request_id in request_ids]
            return [total for total, _ in counts], [private for _, private in counts]
        totals = [0] * len(request_ids)
        for group in self._groups:  # not get_blocks(): it costs ten times as much
            tables = group.req_to_blocks
            totals = [len(tables.get(request_id, ())) for request_id in request_ids]
        if self.shared is None or not self.shared.counts:
            return totals, totals
        shared = self.shared.counts.get
        return totals, [n - shared(name, 0) for n, name in zip(totals, request_ids, strict=True)]

    def freed_in_turn(self, request_ids: Sequence[str], but: Set[int] = frozenset()) -> list[int]:
        """Blocks that come free with each of these, if they give theirs back one after another: what only they share
        comes with the last. Those numbered in `but` do not count."""
        if not but and self.shared is not None:
            own = self.held_by(request_ids)[1]
            return [n + more for n, more in zip(own, self.shared.ended_by(request_ids), strict=True)]
        if not but and not self.prefix_caching and len(self._groups) == 1:
            return self.held_by(request_ids)[0]
        left: dict[int, int] = {}  # holders that stay, of blocks that have several
        freed = []
        for request_id in request_ids:
            count = 0
            for group in self._groups:
                for block in real_blocks(group, group.req_to_blocks.get(request_id, ())):
                    if block.block_id in but:
                        continue
                    if block.ref_cnt > 1:
                        left[block.block_id] = left.get(block.block_id, block.ref_cnt) - 1
                    count += block.ref_cnt == 1 or not left[block.block_id]
            freed.append(count)
        return freed

    def _count(self, request_id: str) -> tuple[int, int]:
        total = private = 0
        for group in self._groups:
            blocks = real_blocks(group, group.req_to_blocks.get(request_id, ()))
            total += len(blocks)
            private += [block.ref_cnt for block in blocks].count(1) if self.prefix_caching else len(blocks)
        return total, private

    def cached_free(self) -> int | None:
        """Free blocks whose content can still be hit; None on steps where a large pool is not scanned."""
        if not self.prefix_caching:
            return 0
        self._scans += 1
        if self._scans % self._scan_period:
            return None
        in_use = self._in_use() if 2 * self.free() > self.usable else None
        if in_use is None:
            return _hashed(self._pool.free_block_queue.get_all_free_blocks())
        return self._cached() - _hashed(in_use)

    def _in_use(self) -> list[Any] | None:
        """Blocks that requests hold, each once; None where those in their tables are not all, or a block may have more than
        one hash."""
        if getattr(self._pool, "cached_block_hashes_by_block", None):
            return None
        tables = [table for group in self._groups for table in group.req_to_blocks.values()]
        held = {block.block_id: block for table in tables for block in table if not block.is_null}
        return [*held.values()] if len(held) == self.usable - self.free() else None

    def _cached(self) -> int:
        """Blocks with a hash. Looking at each of a large pool takes ten times as long."""
        by_hash = self._pool.cached_block_hash_to_block._cache
        same = list(map(type, by_hash.values())).count(dict)  # as many blocks with one content
        if not same:
            return len(by_hash)
        return sum(len(blocks) if isinstance(blocks, dict) else 1 for blocks in by_hash.values())

    def forget_uncomputed(self, request_id: str, computed_tokens: int) -> int:
        """Removes from the prefix cache the blocks a request was given this step but will not compute.

        `allocate_slots` publishes a block's hash before the step runs. A victim that had its turn
        already never runs, and a later hit on such a block would read KV nobody wrote (vLLM PR
        43569, issue 57580). One that had not has no such blocks. Returns how many lost their hash.
        """
        if not self.prefix_caching:
            return 0
        stale = {
            block.block_id
            for group in self._groups
            for block in group.req_to_blocks.get(request_id, ())[computed_tokens // group.block_size :]
            if not block.is_null and block.ref_cnt == 1 and block.block_hash is not None
        }
        if stale:
            self._manager.evict_blocks(stale)
        return len(stale)


def _hashed(blocks: Sequence[Any]) -> int:
    return sum([block.block_hash is not None for block in blocks])


def real_blocks(group: Any, blocks: Sequence[Any]) -> Sequence[Any]:
    """A request's table in a group without null blocks. A step may wait for it: sliding windows have theirs in front."""
    kind = type(group).__name__
    if kind == "FullAttentionManager":
        return blocks
    if kind == "SlidingWindowManager":
        return blocks[bisect_left(blocks, True, key=lambda block: not block.is_null) :]
    return [block for block in blocks if not block.is_null]


def tokens_per_block(groups: Sequence[Any]) -> int:
    """Tokens by which a request grows until it takes one more block, all groups together.

    Groups that keep every token (full attention) count; those that let go of old ones (sliding windows, state space
    models) take no more as a request grows. vLLM's own `block_size` of a group has decode context parallelism in it.
    """
    lasting = [
        group.block_size
        for group in groups
        if getattr(group, "max_admission_blocks_per_request", None) is None
        and type(group).__name__ != "MambaManager"
    ]
    sizes = lasting or [group.block_size for group in groups] or [1]
    return max(1, round(1 / sum(1 / size for size in sizes)))
