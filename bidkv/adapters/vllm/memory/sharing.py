"""How many of each request's KV blocks others hold too, kept current instead of counted anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Run:
    """Blocks in a row that the same requests hold, all of them in the same places of their tables."""

    __slots__ = ("blocks", "holders", "start")

    def __init__(self, start: int, blocks: list[Any], holders: set[str]):
        self.start, self.blocks, self.holders = start, blocks, holders


class SharedBlocks:
    """The ledger of one KV cache group with full attention and a prefix cache.

    A block becomes shared when an admission hits it, and nobody else's again when all but one of its
    holders were freed; nothing else changes who holds what. `counts` has the requests that share any. It is kept
    in runs: a request that joins thousands of blocks of a common prompt joins a few of these.
    """

    def __init__(self, manager: Any, group: Any):
        self.counts: dict[str, int] = {}
        self._tables = group.req_to_blocks
        self._runs: dict[int, Run] = {}  # of each shared block
        self._held: dict[str, list[Run]] = {}  # by request
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

    @property
    def tracked(self) -> int:
        """Entries of any kind, for checks that nothing is kept."""
        return len(self.counts) + len(self._runs) + len(self._held)

    def joined(self, request_id: str, hits: int) -> None:
        """A request was given its first blocks, of which the first `hits` are from the prefix cache."""
        table = self._tables.get(request_id, ())
        place, end, owner = 0, min(hits, len(table)), ""
        while place < end:
            block = table[place]
            run = self._runs.get(block.block_id)
            if run is None and block.ref_cnt > 1 and not block.is_null:
                owner = self._owner(block, place, request_id, owner)
                run = self._start_run(owner, table, place, end) if owner else None
            if run is None:  # it was idle, or a copy in flight holds it and no request does
                place += 1
                continue
            if run.start < place:
                run = self._split(run, place - run.start)
            same = _common(run.blocks, table, place, end)
            if same < len(run.blocks):
                self._split(run, same)
            if request_id not in run.holders:
                self._hold(run, request_id)
            place += same

    def ended_by(self, names: Sequence[str]) -> list[int]:
        """Shared blocks that come free with each of these, if they leave one after another: with the last that holds
        them."""
        left: dict[Run, int] = {}
        freed = [0] * len(names)
        for place, name in enumerate(names):
            for run in self._held.get(name, ()):
                left[run] = left.get(run, len(run.holders)) - 1
                if not left[run]:
                    freed[place] += len(run.blocks)
        return freed

    def _owner(self, block: Any, place: int, but: str, likely: str) -> str:
        """Who else has the block; in the same place, since a hash stands for all tokens up to its end."""
        for name in (likely, *self._tables) if likely else self._tables:
            blocks = self._tables.get(name, ())
            if len(blocks) > place and blocks[place] is block and name != but:
                return name
        return ""

    def _start_run(self, owner: str, table: Any, start: int, end: int) -> Run:
        """From a block that only `owner` had, as far as that goes on."""
        theirs, place = self._tables[owner], start + 1
        end = min(end, len(theirs))
        while place < end and theirs[place] is table[place] and table[place].block_id not in self._runs:
            place += 1
        run = Run(start, list(table[start:place]), set())
        self._runs.update((block.block_id, run) for block in run.blocks)
        self._hold(run, owner)
        return run

    def _hold(self, run: Run, name: str) -> None:
        run.holders.add(name)
        self._held.setdefault(name, []).append(run)
        self.counts[name] = self.counts.get(name, 0) + len(run.blocks)

    def _split(self, run: Run, length: int) -> Run:
        """Cuts the run after so many blocks; returns the rest, which is a run of its own."""
        rest = Run(run.start + length, run.blocks[length:], set(run.holders))
        del run.blocks[length:]
        self._runs.update((block.block_id, rest) for block in rest.blocks)
        for name in rest.holders:
            self._held[name].append(rest)
        return rest

    def _leaves(self, request_id: str) -> None:
        self.counts.pop(request_id, None)
        for run in self._held.pop(request_id, ()):
            run.holders.remove(request_id)
            if len(run.holders) > 1:
                continue
            for block in run.blocks:
                del self._runs[block.block_id]
            (last,) = run.holders
            self._held[last].remove(run)
            self.counts[last] -= len(run.blocks)
            if not self.counts[last]:
                del self.counts[last], self._held[last]


def _common(blocks: list[Any], table: Any, place: int, end: int) -> int:
    """How many of `blocks` are in the table from `place` on, before `end`."""
    length = min(len(blocks), end - place)
    # Comparing lists is quick where they are the same objects; else it ends at the first that is not.
    if blocks[:length] == table[place : place + length]:
        return length
    return next(n for n in range(length) if blocks[n] is not table[place + n])
