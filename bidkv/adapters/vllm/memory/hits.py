"""Lookups in vLLM's prefix cache that need not be made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Lookup(NamedTuple):
    """What vLLM found for one request, and what each block was cached for then."""

    block_hashes: Any
    length: int
    result: Any
    kept_for: list[Any]


class Hits:
    """Stands before the lookup of a KV cache coordinator.

    A first in line that does not fit is looked up in every step, block by block. Of the latest two lookups, one that was
    asked for here and one of vLLM's own, is known what was found. It is found again as long as each of its blocks is
    cached for what it was, and the next block of the prompt is not cached: a tenth of the work. `chain` is the group
    whose hits are a chain of blocks with one hash each, and its block size; without one a lookup holds only until
    blocks change.
    """

    def __init__(self, manager: Any, chain: tuple[int, int] | None):
        self._pool, self._chain = manager.block_pool, chain
        coordinator = manager.coordinator
        self._find: Callable[..., Any] = coordinator.find_longest_cache_hit
        coordinator.find_longest_cache_hit = self._found
        self._asked: Lookup | None = None
        self._latest: Lookup | None = None  # of vLLM's own
        self._holds: Lookup | None = None  # one for which nothing can have changed

    def of(self, request: Any) -> tuple[Any, int]:
        """The blocks, by group, and how many tokens they hold."""
        lookup = self._known(request.block_hashes, request.num_tokens - 1)
        if lookup is None:
            lookup = self._look_up(request.block_hashes, request.num_tokens - 1)
        self._asked = self._holds = lookup
        return lookup.result[0], lookup.result[1]

    def changed(self) -> None:
        """Blocks were given or freed."""
        self._holds = None

    def _found(self, block_hashes: Any, max_cache_hit_length: int, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return self._find(block_hashes, max_cache_hit_length, *args, **kwargs)
        lookup = self._known(block_hashes, max_cache_hit_length)
        if lookup is None:
            lookup = self._latest = self._look_up(block_hashes, max_cache_hit_length)
        self._holds = lookup
        blocks, *more = lookup.result
        return tuple(list(group) for group in blocks), *more

    def _look_up(self, block_hashes: Any, length: int) -> Lookup:
        result = self._find(block_hashes, length)
        kept_for = [block.block_hash for block in result[0][0]] if self._chain else []
        return Lookup(block_hashes, length, result, kept_for)

    def _known(self, block_hashes: Any, length: int) -> Lookup | None:
        for lookup in (self._asked, self._latest):
            if lookup is not None and lookup.block_hashes is block_hashes and lookup.length == length:
                if lookup is self._holds or self._still_holds(lookup):
                    return lookup
        return None

    def _still_holds(self, lookup: Lookup) -> bool:
        if self._chain is None:
            return False
        group, size = self._chain
        (hits,) = lookup.result[0]
        if [block.block_hash for block in hits] != lookup.kept_for:
            return False
        n = len(hits)
        if n >= min(len(lookup.block_hashes), lookup.length // size):
            return True
        return not self._pool.get_cached_block(lookup.block_hashes[n], [group])
