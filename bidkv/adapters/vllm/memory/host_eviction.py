"""What vLLM's host memory for KV blocks gives up next, where the strategy's rule of retention says so.

vLLM (0.32 on) loads the class by name, from `kv_connector_extra_config` of its `OffloadingConnector`:
`{"eviction_policy": "RetentionEviction", "cache_policy_module_path": "bidkv.adapters.vllm.memory.host_eviction"}`;
in a benchmark `engine.kv_offload_eviction=retention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from vllm.v1.kv_offload.base import get_offload_block_hash, make_offload_key
from vllm.v1.kv_offload.cpu.policies.lru import LRUCachePolicy

from bidkv.adapters.shared.layout import UnknownLayoutError
from bidkv.adapters.shared.owners import Hash, Owners


class RetentionEviction(LRUCachePolicy):
    """vLLM's own LRU, and exactly that until `follow` is told of owners.

    Then, as in the pool on the device: what is oldest and of nobody goes first, then the last blocks of whoever is to give
    up theirs, and if the owners have no more, vLLM's own choice.
    """

    def __init__(self, cache_capacity: int):
        super().__init__(cache_capacity)
        missing = [
            name for name in ("_heap", "_evictable", "_is_current", "chunks") if not hasattr(self, name)
        ]
        if missing:
            raise UnknownLayoutError(
                f"kv_offload_eviction 'retention' extends vLLM's LRUCachePolicy, which here lacks {', '.join(missing)}; "
                "choose 'lru'"
            )
        self._owners: Owners | None = None

    def follow(
        self, owners: Owners | None, clock: Callable[[], float], failed: Callable[[Exception], None]
    ) -> None:
        """From now on `owners` say who gives up; None leaves all to vLLM. `failed` is told what a rule raised: vLLM goes on."""
        self._owners, self._clock, self._failed = owners, clock, failed

    def look(self, block: Hash, content: Hash) -> bool | None:
        """For `Owners`, to whom a block is its hash: whether it is idle; None if it is not in host memory."""
        key = make_offload_key(content, 0)
        return key in self._evictable if key in self.chunks else None

    def evict(self, n: int, protected: set[Any]) -> list[tuple[Any, Any]] | None:
        """As vLLM's: exactly `n`, none of `protected`, or None and nothing changed."""
        if self._owners is None:
            return super().evict(n, protected)
        if n > len(self._evictable) - sum(key in self._evictable for key in protected):
            return None
        keys = self._of_nobody(n, protected)
        if len(keys) < n:
            keys += self._of_owners(n - len(keys), protected)
        evicted = [(key, self.chunks[key]) for key in keys]
        for key in keys:
            self.remove(key)
        rest = super().evict(n - len(keys), protected) if len(keys) < n else []
        return evicted + (rest or [])

    def _of_nobody(self, n: int, protected: set[Any]) -> list[Any]:
        """The oldest, as far as no owner has them."""
        holders, passed = self._owners.holders, []
        keys: dict[Any, None] = {}  # vLLM's heap may hold one twice
        while self._heap and len(keys) < n:
            entry = self._heap[0]
            key = entry[1]
            known = self._is_current(entry) and key not in keys
            if known and key not in protected and get_offload_block_hash(key) in holders:
                break
            heappop(self._heap)
            if known and key in protected:
                passed.append(entry)
            elif known:
                keys[key] = None
        for entry in passed:
            heappush(self._heap, entry)
        return [*keys]

    def _of_owners(self, n: int, protected: set[Any]) -> list[Any]:
        try:
            taken: Sequence[Hash] = self._owners.take(n, self._clock())
        except Exception as error:  # a third party's code; the engine must go on
            self._failed(error)
            return []
        return [key for key in (make_offload_key(block, 0) for block in taken) if key not in protected]
