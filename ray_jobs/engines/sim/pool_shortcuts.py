"""vLLM's block pool with fewer calls for each block that enters or leaves the prefix cache; the same ones do.

Long prompts that are computed again and again go through these two more often than through all else. Off with
`engine.sim.shortcuts=false`, as `shortcuts.py`.
"""

from __future__ import annotations

from typing import Any


def shorten(pool: Any) -> None:
    """From now on blocks without a second hash, of which nobody is told, are entered and removed here. vLLM does all others."""
    if not pool.enable_caching or pool.enable_kv_cache_events or pool.metrics_collector is not None:
        return
    stock_cache, stock_evict = pool.cache_full_blocks, pool._maybe_evict_cached_block

    def evict(block: Any) -> bool:
        cached, block_hash = pool.cached_block_hash_to_block._cache, block._block_hash
        # Another block may have the same content, and a partial block a hash more.
        if cached.get(block_hash) is not block or block.block_id in pool.cached_block_hashes_by_block:
            return stock_evict(block)
        del cached[block_hash]
        block._block_hash = block._block_hash_num_tokens = None
        return True

    def cache_full_blocks(
        request: Any,
        blocks: list[Any],
        num_cached_blocks: int,
        num_full_blocks: int,
        block_size: int,
        kv_cache_group_id: int,
        block_mask: list[bool] | None = None,
    ) -> None:
        if block_mask is not None or block_size != pool.hash_block_size:
            stock_cache(
                request, blocks, num_cached_blocks, num_full_blocks, block_size, kv_cache_group_id, block_mask
            )
            return
        group = kv_cache_group_id.to_bytes(4, "big")
        content, hashes = pool.cached_block_hash_to_block, request.block_hashes
        cached = content._cache
        for place in range(num_cached_blocks, num_full_blocks):
            block = blocks[place]
            if block.is_null or block._block_hash is not None:
                stock_cache(request, blocks, place, place + 1, block_size, kv_cache_group_id)
                continue
            block._block_hash = key = hashes[place] + group
            block._block_hash_num_tokens = (place + 1) * block_size
            if key in cached:
                content.insert(key, block)
            else:
                cached[key] = block

    pool.cache_full_blocks, pool._maybe_evict_cached_block = cache_full_blocks, evict
