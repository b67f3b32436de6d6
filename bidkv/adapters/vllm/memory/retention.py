"""Which cached blocks vLLM's pool gives up next, where a retention policy says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from time import perf_counter_ns
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.layout import UnknownLayoutError
from bidkv.adapters.shared.owners import Owners
from bidkv.adapters.shared.session import Session
from bidkv.adapters.vllm.memory.copies import HostCopies
from bidkv.adapters.vllm.memory.host import HostMemory
from bidkv.owner import Owner
from bidkv.retention.base import Retention
from bidkv.strategies.base import Strategy

GROUP_BYTES = 4
"""vLLM puts the number of the KV cache group behind a block's hash."""


class KeptBlocks:
    """Stands before `get_new_blocks` of one vLLM block pool while a policy other than the engine's own is chosen.

    With the engine's own, whose blocks are cached is followed only if the admission asks, and the pool is left alone.
    vLLM hands out the front of its free queue. When all that it would hand out is uncached, or cached but of nobody
    known, nothing is changed. Else as many blocks as are missing are moved there, those of whoever is to give up first:
    the pool is never sorted, and nothing is moved that is not handed out at once. Beside a connector that holds blocks
    elsewhere and does not tell which, vLLM's own order stays: what a return costs is not known.
    """

    def __init__(self, manager: Any, session: Session, clock: Callable[[], float], host: HostMemory | None):
        self._manager, self._session, self._clock, self._host = manager, session, clock, host
        self._pool = manager.block_pool
        self._groups = manager.coordinator.single_type_managers
        self._owners: Owners | None = None  # None while vLLM decides and nobody asks
        self._elsewhere: Owners | None = None  # of copies in host memory, where its eviction is ours
        self._chooses = False  # whether `get_new_blocks` is ours

    @property
    def _copies(self) -> HostCopies | None:
        return None if self._host is None else self._host.copies

    @property
    def may_choose(self) -> bool:
        """Whether a policy may decide here: not where nobody tells what is held elsewhere."""
        return self._host is None or self._host.forwards or self._copies is not None

    @property
    def evicts_elsewhere(self) -> bool:
        """Whether host memory gives up its blocks by the same rule."""
        return self._copies is not None and self._copies.eviction is not None

    def _owners_elsewhere(self, policy: Retention) -> Owners:
        """The same rule with a memory of its own: what it learns of how long blocks stay is not the device's."""
        rule, pool = deepcopy(policy), self._session.pool
        rule.__dict__["pool"] = pool
        return Owners(rule, pool, self._groups[0].block_size, self._copies.eviction.look, in_flight=True)

    @property
    def owners(self) -> Owners | None:
        return self._owners

    def check(self, strategy: Strategy) -> None:
        """Raises `UnknownLayoutError` where a policy could decide nothing, or not the right thing."""
        if not strategy.retention.stock:
            self._check(f"retention {strategy.retention.name!r}", "choose retention 'lru'")
            if self.evicts_elsewhere:
                self._check_copy(strategy.retention)
        if strategy.admission.sees_cache:
            self._check(f"admission {strategy.admission.name!r}", "choose another, such as 'backfill'")

    def _check_copy(self, policy: Retention) -> None:
        try:
            deepcopy(policy)
        except Exception as error:  # a third party's code
            raise UnknownLayoutError(
                f"retention {policy.name!r} cannot be copied ({error}), and host memory that follows it needs a rule of its own; "
                "leave host memory to vLLM (its eviction policy 'lru') or hold nothing that copy.deepcopy refuses"
            ) from error

    def _check(self, what: str, cure: str) -> None:
        kinds = [type(group).__name__ for group in self._groups]
        if not self._manager.enable_caching:
            raise UnknownLayoutError(
                f"{what} needs a prefix cache, and this engine has none; enable prefix caching or {cure}"
            )
        if kinds != ["FullAttentionManager"]:
            raise UnknownLayoutError(
                f"{what} follows one KV cache group with full attention, this engine has {', '.join(kinds)}; {cure}"
            )

    def choose(self, policy: Retention | None, followed: bool = False) -> None:
        """From now on `policy` decides; None leaves all to vLLM. What is cached by then is of nobody known. With
        `followed`, owners are known whoever decides."""
        chooses = policy is not None and not policy.stock and self.may_choose
        if self._chooses and not chooses:
            del self._pool.get_new_blocks  # the class's own is there again
        elif chooses and not self._chooses:
            self._pool.get_new_blocks = self._asking(self._pool.get_new_blocks)
        self._chooses, self._owners = chooses, None
        if self._host is not None:
            self._host.keep_beginnings = chooses
        if policy is not None and (chooses or followed):
            size, copies = self._groups[0].block_size, self._copies
            leading = copies.leading if chooses and copies is not None else None
            self._owners = Owners(policy, self._session.pool, size, _look, leading)
        if self.evicts_elsewhere:
            self._elsewhere = self._owners_elsewhere(policy) if chooses else None
            self._copies.eviction.follow(self._elsewhere, self._clock, self._failed)

    def resting(self) -> Iterator[Owner]:
        """See `Owners`; nobody, where nobody is followed."""
        return iter(()) if self._owners is None else self._owners.resting()

    # -- what happens --------------------------------------------------------------------------

    def arrived(self, request: Any, account: RequestAccount) -> None:
        if self._owners is not None:
            hashes, session = request.block_hashes, account.state.session or _session_of(request)
            self._tell(
                Owners.arrived, request.request_id, hashes, session, request.num_prompt_tokens, self._clock()
            )

    def started(self, request: Any, cached_tokens: int) -> None:
        if self._owners is not None:
            self._tell(Owners.started, request.request_id, cached_tokens, request.num_prompt_tokens)

    def preempted(self, request: Any) -> None:
        """Before vLLM takes its blocks."""
        if self._owners is not None:
            self._tell_blocks(Owners.preempted, request, self._clock())

    def ended(self, request: Any, account: RequestAccount) -> None:
        """Before vLLM takes its blocks."""
        if self._owners is None:
            return
        now, pause = self._clock(), account.true_pause_s
        true_next = now + pause if self._owners.policy.oracle and pause is not None else None
        counts = request.num_prompt_tokens, request.num_output_tokens
        self._tell_blocks(Owners.ended, request, *counts, now, true_next, account.pause_s)

    def cleared(self) -> None:
        """The prefix cache was reset."""
        if self._owners is not None:
            self._tell(Owners.cleared)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        start = perf_counter_ns()
        for owners in (self._owners, self._elsewhere):
            if owners is not None:
                self._tell_one(owners, what, *args)
        self._session.log.counters["retention_ns"] += perf_counter_ns() - start

    def _tell_blocks(self, what: Callable[..., None], request: Any, *args: Any) -> None:
        """With the hashes and the blocks of a request that are in the prefix cache; in host memory a block is its hash."""
        start = perf_counter_ns()
        (group,) = self._groups
        cached = group.num_cached_block.get(request.request_id, 0)
        blocks = group.req_to_blocks.get(request.request_id, [])[:cached]
        name, hashes, elsewhere = request.request_id, request.block_hashes, self._elsewhere
        self._tell_one(self._owners, what, name, hashes, blocks, *args)
        if elsewhere is not None and elsewhere is self._elsewhere:  # else the rule failed just now
            self._tell_one(elsewhere, what, name, hashes, hashes[: len(blocks)], *args)
        self._session.log.counters["retention_ns"] += perf_counter_ns() - start

    def _tell_one(self, owners: Owners, what: Callable[..., None], *args: Any) -> None:
        try:
            what(owners, *args)
        except Exception as error:  # a third party's code; the engine must go on
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._session.log.strategy_error(error)
        self.choose(None)

    # -- what the pool gives up ----------------------------------------------------------------

    def _asking(self, stock: Callable[[int], list[Any]]) -> Callable[[int], list[Any]]:
        def get_new_blocks(num_blocks: int) -> list[Any]:
            start = perf_counter_ns()
            try:
                self._bring_forward(num_blocks)
            except Exception as error:  # a third party's code; the engine must go on
                self._failed(error)
            self._session.log.counters["retention_ns"] += perf_counter_ns() - start
            return stock(num_blocks)

        return get_new_blocks

    def _bring_forward(self, count: int) -> None:
        """Puts blocks that are to be given up behind those at the front that are nobody's, until these are `count`."""
        holders, queue = self._owners.holders, self._pool.free_block_queue
        block, end = queue.fake_free_list_head.next_free_block, queue.fake_free_list_tail
        while count and block is not end:
            block_hash = block.block_hash
            if block_hash is not None and block_hash[:-GROUP_BYTES] in holders:
                break
            block, count = block.next_free_block, count - 1
        if count and block is not end:
            _move_before(block, self._owners.take(count, self._clock()))


def _look(block: Any, content: bytes) -> bool | None:
    block_hash = block.block_hash
    if block_hash is None or not block_hash.startswith(content):
        return None
    return not block.ref_cnt and block.prev_free_block is not None


def _move_before(place: Any, blocks: list[Any]) -> None:
    """Moves blocks of vLLM's free queue in front of the one at `place`, run by run: those that are neighbours there stay
    so. `place` may be one of them."""
    start, count = 0, len(blocks)
    while start < count:
        first = last = blocks[start]
        start += 1
        while start < count and last.next_free_block is blocks[start]:
            last = blocks[start]
            start += 1
        before, after = first.prev_free_block, last.next_free_block
        if first is place or after is place:  # it is there
            place = after
            continue
        before.next_free_block, after.prev_free_block = after, before
        front = place.prev_free_block
        front.next_free_block, first.prev_free_block = first, front
        last.next_free_block, place.prev_free_block = place, last


def _session_of(request: Any) -> str | None:
    """What vLLM itself was told (`session_id`); 0.26 is told nothing."""
    return getattr(request, "session_id", None)
