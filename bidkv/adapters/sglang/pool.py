"""Reads SGLang's KV memory: what is free, and how much of it each request shares."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from bidkv.adapters.sglang.layout import holds_kv, kv_field
from bidkv.adapters.sglang.prefixes import TOKEN, SharedPrefixes, TreePath
from bidkv.request import RequestState


class KVPool:
    """A view of one scheduler's token pool and radix tree. Blocks are SGLang's pages."""

    def __init__(self, scheduler: Any):
        self._scheduler = scheduler
        self._allocator = scheduler.token_to_kv_pool_allocator
        self._tree = scheduler.tree_cache
        self._prefixes = SharedPrefixes()
        self.page_size: int = self._allocator.page_size
        self.num_blocks: int = self._allocator.size // self.page_size
        self.prefix_caching: bool = not self._tree.disable

    def free_tokens(self) -> int:
        return self._allocator.available_size()

    def evictable_tokens(self) -> int:
        """Tokens in the tree that no request holds: free for whoever needs them, still there to be hit."""
        return self._tree.evictable_size()

    def reclaimable_tokens(self) -> int:
        return self.free_tokens() + self.evictable_tokens()

    def used_blocks(self) -> int:
        return self.num_blocks - self.reclaimable_tokens() // self.page_size

    def measure(self, states: dict[str, RequestState], reqs: Iterable[Any]) -> None:
        """Fills in the memory of each state, by request id, from the requests of a running batch."""
        batch = list(reqs)
        paths = {r.rid: self._path(r) for r in chain(batch, self._other_holders(batch))}
        self._prefixes.sync(paths)
        for req in batch:
            state = states[req.rid]
            state.computed_tokens = kv_field(req, "kv_allocated_len")
            state.total_blocks = -(-state.computed_tokens // self.page_size)
            self._count_private(state)

    def retire(self, victim: RequestState, states: dict[str, RequestState]) -> None:
        """Counts private tokens anew as if `victim` had given up its KV already."""
        for name in self._prefixes.remove(victim.request_id):
            if name in states:
                self._count_private(states[name])

    def _count_private(self, state: RequestState) -> None:
        shared_blocks = self._prefixes.shared(state.request_id) // self.page_size
        state.private_blocks = state.total_blocks - shared_blocks
        state.private_tokens = state.computed_tokens - shared_blocks * self.page_size

    def _path(self, req: Any) -> TreePath:
        """The request's path in the tree; it only changes when its prefill adds to the tree."""
        size = kv_field(req, "cache_protected_len")
        known = self._prefixes.path(req.rid)
        if known is not None and len(known.tokens) == size * TOKEN.itemsize:
            return known
        prompt = np.asarray(req.origin_input_ids[:size], TOKEN)
        output = np.asarray(req.output_ids[: size - prompt.size], TOKEN)
        namespace = (req.extra_key, getattr(req, "cache_salt", None))
        return TreePath(namespace, prompt.tobytes() + output.tobytes())

    def _other_holders(self, batch: list[Any]) -> list[Any]:
        """Requests that pin KV outside the batch: a chunked prefill, or one whose last token is in flight."""
        inside = {id(req) for req in batch}
        chunked = self._scheduler.chunked_req
        outside = [chunked] if chunked is not None else []
        for launched, *_ in getattr(self._scheduler, "result_queue", None) or ():
            outside += launched.reqs
        return [r for r in {id(r): r for r in outside}.values() if id(r) not in inside and holds_kv(r)]
