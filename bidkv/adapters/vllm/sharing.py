"""How many of each request's KV blocks others hold too, kept current instead of counted anew."""

from __future__ import annotations

from typing import Any


class SharedBlocks:
    """The ledger of one KV cache group with full attention and a prefix cache.

    A block becomes shared when an admission hits it, and nobody else's again when all but one of its
    holders were freed; nothing else changes who holds what. `counts` has the requests that share any.
    """

    def __init__(self, manager: Any, group: Any):
        self.counts: dict[str, int] = {}
        self._tables = group.req_to_blocks
        self._holders: dict[int, set[str]] = {}  # of each shared block
        free = manager.free

        def free_and_forget(request: Any) -> Any:
            self._leaves(request.request_id)
            return free(request)

        manager.free = free_and_forget
        pop = getattr(manager, "pop_blocks_for_free", None)
        if (
            pop is not None
        ):  # blocks that a step in flight may still write to are taken off first and freed later

            def pop_and_forget(request: Any) -> Any:
                self._leaves(request.request_id)
                return pop(request)

            manager.pop_blocks_for_free = pop_and_forget

    def joined(self, request_id: str) -> None:
        """A request was given its first blocks, some of them from the prefix cache."""
        owner = ""
        for place, block in enumerate(self._tables.get(request_id, ())):
            if block.ref_cnt < 2 or block.is_null:
                continue
            holders = self._holders.get(block.block_id)
            if holders is None:
                owner = self._owner(block, place, request_id, owner)
                if not owner:  # a copy in flight holds it, and no request does
                    continue
                holders = self._holders[block.block_id] = {owner}
                self.counts[owner] = self.counts.get(owner, 0) + 1
            if request_id not in holders:
                holders.add(request_id)
                self.counts[request_id] = self.counts.get(request_id, 0) + 1

    def _owner(self, block: Any, place: int, but: str, likely: str) -> str:
        """Who else has the block; in the same place, since a hash stands for all tokens up to its end."""
        for name in (likely, *self._tables) if likely else self._tables:
            blocks = self._tables.get(name, ())
            if len(blocks) > place and blocks[place] is block and name != but:
                return name
        return ""

    def _leaves(self, request_id: str) -> None:
        if not self.counts.pop(request_id, 0):
            return
        for block in self._tables.get(request_id, ()):
            holders = self._holders.get(block.block_id)
            if holders is None or request_id not in holders:
                continue
            holders.remove(request_id)
            if len(holders) == 1:
                (last,) = holders
                del self._holders[block.block_id]
                self.counts[last] -= 1
                if not self.counts[last]:
                    del self.counts[last]
