"""How many free blocks a waiting request takes to start, as vLLM itself reckons at its admission."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from typing import Any

from vllm.v1.request import RequestStatus

from bidkv.adapters.vllm.memory.hits import Hits
from bidkv.adapters.vllm.memory.looks import Looks


class Demand:
    """Asks the KV cache coordinator of one scheduler.

    `exact` is what vLLM will ask for next, `most` the same without hits in the prefix cache, which costs next to
    nothing, and `guess` an index for choosing whom to offer: vLLM has the last word on it.
    """

    def __init__(self, scheduler: Any, looks: Looks):
        self._scheduler, self._looks = scheduler, looks
        self._manager = manager = scheduler.kv_cache_manager
        self._coordinator = coordinator = manager.coordinator
        self._empty = manager.empty_kv_cache_blocks.blocks
        self._ends_prefill = (
            "prefill_end" in inspect.signature(coordinator.get_num_blocks_to_allocate).parameters
        )
        self.scheduled = 0  # tokens in this step so far, where vLLM reserves for no more than a chunk
        groups = coordinator.single_type_managers
        self._chain_of = self._chain(groups) if len(groups) == 1 else None
        self.elsewhere: Callable[[str], int] | None = None  # tokens that a KV connector has of a request
        self._lets_go = any(type(group).__name__ != "FullAttentionManager" for group in groups)
        self._hits = Hits(manager, self._chain_of)

    def watermark(self, request: Any) -> int:
        """Blocks that vLLM keeps free of this admission."""
        waits = request.status in (RequestStatus.WAITING, RequestStatus.PREEMPTED)
        return getattr(self._manager, "watermark_blocks", 0) if waits and self._scheduler.running else 0

    def most(self, request: Any) -> int:
        """Without hits in the prefix cache."""
        return self._blocks(request, self._empty, request.num_computed_tokens)

    def exact(self, request: Any) -> int:
        """With them: one lookup, which vLLM then need not do again. And with what a connector said that it has."""
        hits, computed = self._found(request)
        asks = self.elsewhere is not None and not request.num_computed_tokens
        return self._blocks(request, hits, computed, self.elsewhere(request.request_id) if asks else 0)

    def least(self, request: Any) -> int:
        """With hits, and where a connector has all the rest: windows take no blocks then for what is behind them."""
        return self._blocks(request, *self._found(request), request.num_tokens - 1)

    def depends_on_connector(self, request: Any) -> bool:
        """Whether it may take less than `exact`, which only vLLM's asking the connector shows."""
        return self.elsewhere is not None and self._lets_go and not request.num_computed_tokens

    def held_hits(self, request: Any) -> Set[int]:
        """The numbers of blocks that the prefix cache has of it and others hold: `exact` counts on their going on."""
        if not self.looks_up(request):
            return frozenset()
        hits, _ = self._hits.of(request)
        return {block.block_id for group in hits for block in group if block.ref_cnt and not block.is_null}

    def guess(self, request: Any, most: int | None = None) -> int:
        """With hits that are in use, found by halves: the beginning of a prefix is cached if its end is. `most` is
        `most(request)` where that is known."""
        most = self.most(request) if most is None else most
        if not self.looks_up(request):
            return most
        if self._chain_of is None:
            return self.exact(request)
        group, size = self._chain_of
        hashes, get = request.block_hashes, self._manager.block_pool.get_cached_block
        low, high = 0, min(len(hashes), (request.num_tokens - 1) // size)
        if high and not _in_use(get(hashes[0], [group])):
            self._looks.blocks += (high + 1).bit_length() - 1  # as many as halving would have looked up
            return most
        while low < high:
            middle = (low + high + 1) // 2
            self._looks.blocks += 1
            low, high = (middle, high) if _in_use(get(hashes[middle - 1], [group])) else (low, middle - 1)
        return most - low

    def cached_tokens(self, request: Any, known: int | None = None) -> int:
        """Its first tokens that the prefix cache has, in use or not; `known` is what was found when it was asked last.
        Found by halves, as in `guess`."""
        if not self.looks_up(request):
            return request.num_computed_tokens
        if self._chain_of is None:
            return self._hits.of(request)[1]
        group, size = self._chain_of
        hashes, get = request.block_hashes, self._manager.block_pool.get_cached_block
        low, high = 0, min(len(hashes), (request.num_tokens - 1) // size)
        if known is not None and known // size <= high:
            place = known // size
            self._looks.blocks += 2
            if (not place or get(hashes[place - 1], [group])) and (
                place == high or not get(hashes[place], [group])
            ):
                return place * size
        while low < high:
            middle = (low + high + 1) // 2
            self._looks.blocks += 1
            low, high = (middle, high) if get(hashes[middle - 1], [group]) else (low, middle - 1)
        return low * size

    @property
    def most_lasts(self) -> bool:
        """Whether `most` of one that waits stays the same as long as its tokens do."""
        return self._scheduler.scheduler_reserve_full_isl and not self._scheduler.num_lookahead_tokens

    def looks_up(self, request: Any) -> bool:
        """Whether vLLM looks in the prefix cache for it."""
        manager = self._manager
        return (
            manager.enable_caching
            and not request.num_computed_tokens
            and not request.skip_reading_prefix_cache
        )

    def of_call(self, request: Any, new_tokens: int, call: dict[str, Any]) -> int:
        """What a call of `allocate_slots` is about to ask for; `call` are its other arguments by name."""
        blocks = call.get("new_computed_blocks")
        computed = request.num_computed_tokens + call.get("num_new_computed_tokens", 0)
        total = computed + call.get("num_external_computed_tokens", 0)
        whole = call.get("full_sequence_must_fit", False)
        lookahead = 0 if whole else call.get("num_lookahead_tokens", 0)
        tokens = request.num_tokens if whole else total + new_tokens + lookahead
        hits = blocks.blocks if blocks is not None else self._empty
        return self._ask(request, hits, tokens, total, computed, whole, lookahead)

    def shortfall(self, request: Any, new_tokens: int, lookahead: int) -> int:
        """Blocks that are not free and that a running request lacks for `new_tokens` more; at least one."""
        computed = request.num_computed_tokens
        lacking = self._ask(
            request, self._empty, computed + new_tokens + lookahead, computed, computed, False, lookahead
        )
        return max(1, lacking - self._manager.block_pool.get_num_free_blocks())

    def keep(self, request: Any) -> int:
        """Moves what the prefix cache has of it, and nobody holds, to the end of what is given up next; how many blocks."""
        if not self.looks_up(request):
            return 0
        pool = self._manager.block_pool
        hits, _ = self._hits.of(request)
        idle = [block for group in hits for block in group if not block.is_null and not block.ref_cnt]
        pool.touch(idle)
        pool.free_blocks(reversed(idle))
        return len(idle)

    def begin(self) -> None:
        """A step begins."""
        self.scheduled = 0
        self.changed()

    def changed(self) -> None:
        """Blocks were given or freed."""
        self._hits.changed()

    def _found(self, request: Any) -> tuple[Any, int]:
        """Its hits in the prefix cache, by group, and how many of its tokens are computed with them."""
        if self.looks_up(request):
            return self._hits.of(request)
        return self._empty, request.num_computed_tokens

    def _blocks(self, request: Any, hits: Any, computed: int, elsewhere: int = 0) -> int:
        """What starting needs: all tokens where vLLM reserves for them, else the first chunk. `elsewhere` tokens from
        its beginning need not be computed either."""
        total = max(computed, elsewhere)
        scheduler = self._scheduler
        lookahead = scheduler.num_lookahead_tokens
        budget = max(1, scheduler.max_num_scheduled_tokens - self.scheduled)
        longest = scheduler.scheduler_config.long_prefill_token_threshold
        chunk = min(request.num_tokens, total + (min(budget, longest) if longest > 0 else budget)) + lookahead
        if not scheduler.scheduler_reserve_full_isl:
            return self._ask(request, hits, chunk, total, computed, False, lookahead)
        needed = self._ask(request, hits, request.num_tokens, total, computed, True)
        if lookahead:
            needed = max(needed, self._ask(request, hits, chunk, total, computed, False, lookahead))
        return needed

    def _ask(
        self, request: Any, hits: Any, tokens: int, total: int, computed: int, whole: bool, lookahead: int = 0
    ) -> int:
        longest = self._manager.max_model_len
        more = (
            {"prefill_end": max(request.num_prompt_tokens, request.num_tokens - 1)}
            if self._ends_prefill
            else {}
        )
        return self._coordinator.get_num_blocks_to_allocate(
            request_id=request.request_id,
            num_tokens=min(tokens, longest),
            new_computed_blocks=hits,
            num_encoder_tokens=0,
            total_computed_tokens=min(total, longest),
            num_local_computed_tokens=computed,
            num_tokens_main_model=min(tokens - lookahead, longest),
            apply_admission_cap=whole,
            **more,
        )

    def _chain(self, groups: Any) -> tuple[int, int] | None:
        """The group whose hits are a chain of blocks with one hash each, and its block size; None if they are not."""
        (group,) = groups
        plain = type(group).__name__ == "FullAttentionManager"
        if plain and getattr(self._scheduler, "hash_block_size", group.block_size) == group.block_size:
            return group.kv_cache_group_id, group.block_size
        return None


def _in_use(found: Any) -> bool:
    return bool(found) and found[0].ref_cnt > 0
