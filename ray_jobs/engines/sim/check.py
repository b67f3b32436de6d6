"""Verifies after every step that the scheduler has lost no block, no token and no request."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vllm.v1.request import RequestStatus

from ray_jobs.engines.sim.conservation import check_account, must

WAITING = (RequestStatus.WAITING, RequestStatus.PREEMPTED, RequestStatus.WAITING_FOR_REMOTE_KVS)


def check_conservation(scheduler: Any) -> None:
    """Raises ConservationError. Walks the whole block pool."""
    check_requests(scheduler)
    check_blocks(scheduler)
    check_tokens(scheduler)


def check_requests(scheduler: Any) -> None:
    """Every request is in exactly one place, and its status says which."""
    running, waiting = list(scheduler.running), [*scheduler.waiting, *set_aside(scheduler)]
    places = Counter(r.request_id for r in (*running, *waiting))
    live = {name for name, request in scheduler.requests.items() if not request.is_finished()}
    must(set(places) == live, "requests", "not all in running or waiting", set(places) ^ live)
    must(max(places.values(), default=1) == 1, "requests", "one is in two places", places)
    for request in running:
        must(request.status == RequestStatus.RUNNING, request.request_id, "runs with status", request.status)
    for request in waiting:
        fits = request.status in WAITING
        must(fits, request.request_id, "waits with status", request.status)
    must(len(running) <= scheduler.max_num_running_reqs, "running", "more than max_num_seqs", len(running))


def set_aside(scheduler: Any) -> list[Any]:
    """Requests that wait outside the queue, such as for KV that is on its way; vLLM 0.26 has another name for it."""
    return list(getattr(scheduler, "kv_holding_waiting", None) or getattr(scheduler, "skipped_waiting", ()))


def check_blocks(scheduler: Any) -> None:
    """A block is free or held: its count of holders is right, and the free list has it if nobody holds it.

    Over all KV cache groups, which take their blocks from one pool. Where a window has moved on, or a state needs no
    block, a request's table has vLLM's null block, which nobody holds.
    """
    manager = scheduler.kv_cache_manager
    pool, aside = manager.block_pool, set_aside(scheduler)
    groups = manager.coordinator.single_type_managers
    holders: Counter[int] = Counter()
    for request_id, request in scheduler.requests.items():
        tables = manager.get_blocks(request_id).blocks
        ids = [block.block_id for table in tables for block in table if not block.is_null]
        must(len(ids) == len(set(ids)), request_id, "holds a block twice", ids)
        # One that has ended may hold blocks that a connector has yet to send, or still fills.
        kept = request.is_finished() and scheduler.connector is not None
        if request.status != RequestStatus.RUNNING and request not in aside and not kept:
            must(not ids, request_id, "waits but holds blocks", ids)
        for group, table in zip(groups, tables, strict=True):
            if keeps_every_token(group):
                room = len(table) * group.block_size
                must(request.num_computed_tokens <= room, request_id, "has more tokens than room", room)
        holders.update(ids)
    # With a connector, blocks of a request that a running step still writes are freed after it.
    holders.update(block.block_id for _, blocks in scheduler.deferred_frees for block in blocks)
    free = [block.block_id for block in pool.free_block_queue.get_all_free_blocks()]
    must(len(free) == len(set(free)), "free list", "has a block twice", free)
    must(len(free) == pool.get_num_free_blocks(), "free list", "has a wrong length", len(free))
    must(not holders.keys() & set(free), "blocks", "free and held", holders.keys() & set(free))
    for block in pool.blocks:
        if not block.is_null:
            held = holders[block.block_id]
            must(block.ref_cnt == held, f"block {block.block_id}", f"ref_cnt {block.ref_cnt}, holders", held)
    total = len(free) + len(holders) + 1
    must(total == pool.num_gpu_blocks, "blocks", "free + held + null block are not all", total)


def keeps_every_token(group: Any) -> bool:
    """Whether a request's table grows with its tokens; a state takes the same room however many there were."""
    return type(group).__name__ != "MambaManager"


def check_tokens(scheduler: Any) -> None:
    """What was executed for a request is what it has computed, less what it had to compute again."""
    for request_id, account in scheduler._bidkv_accounts.items():
        request = scheduler.requests[request_id]
        check_account(request_id, account)
        computed = request.num_computed_tokens
        loading = account.restored_from is not None  # counted when its first step is scheduled
        must(
            loading or computed <= account.frontier,
            request_id,
            f"computed {computed} > frontier",
            account.frontier,
        )
        ahead = account.frontier - request.num_tokens
        must(ahead <= 1, request_id, "computed tokens that do not exist yet", ahead)
