"""Verifies after every step that the scheduler has lost no block, no token and no request."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vllm.v1.request import RequestStatus

WAITING = (RequestStatus.WAITING, RequestStatus.PREEMPTED, RequestStatus.WAITING_FOR_REMOTE_KVS)


class ConservationError(AssertionError):
    """A block or a token was lost or counted twice."""


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
    _require(set(places) == live, "requests", "not all in running or waiting", set(places) ^ live)
    _require(max(places.values(), default=1) == 1, "requests", "one is in two places", places)
    for request in running:
        _require(
            request.status == RequestStatus.RUNNING, request.request_id, "runs with status", request.status
        )
    for request in waiting:
        fits = request.status in WAITING
        _require(fits, request.request_id, "waits with status", request.status)
    _require(
        len(running) <= scheduler.max_num_running_reqs, "running", "more than max_num_seqs", len(running)
    )


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
        _require(len(ids) == len(set(ids)), request_id, "holds a block twice", ids)
        # One that has ended may hold blocks that a connector has yet to send, or still fills.
        kept = request.is_finished() and scheduler.connector is not None
        if request.status != RequestStatus.RUNNING and request not in aside and not kept:
            _require(not ids, request_id, "waits but holds blocks", ids)
        for group, table in zip(groups, tables, strict=True):
            if keeps_every_token(group):
                room = len(table) * group.block_size
                _require(request.num_computed_tokens <= room, request_id, "has more tokens than room", room)
        holders.update(ids)
    # With a connector, blocks of a request that a running step still writes are freed after it.
    holders.update(block.block_id for _, blocks in scheduler.deferred_frees for block in blocks)
    free = [block.block_id for block in pool.free_block_queue.get_all_free_blocks()]
    _require(len(free) == len(set(free)), "free list", "has a block twice", free)
    _require(len(free) == pool.get_num_free_blocks(), "free list", "has a wrong length", len(free))
    _require(not holders.keys() & set(free), "blocks", "free and held", holders.keys() & set(free))
    for block in pool.blocks:
        if not block.is_null:
            held = holders[block.block_id]
            _require(
                block.ref_cnt == held, f"block {block.block_id}", f"ref_cnt {block.ref_cnt}, holders", held
            )
    total = len(free) + len(holders) + 1
    _require(total == pool.num_gpu_blocks, "blocks", "free + held + null block are not all", total)


def keeps_every_token(group: Any) -> bool:
    """Whether a request's table grows with its tokens; a state takes the same room however many there were."""
    return type(group).__name__ != "MambaManager"


def check_tokens(scheduler: Any) -> None:
    """What was executed for a request is what it has computed, less what it had to compute again."""
    for request_id, account in scheduler._bidkv_accounts.items():
        request = scheduler.requests[request_id]
        new = account.executed - account.recomputed + account.cached + account.restored
        _require(new == account.frontier, request_id, f"frontier {account.frontier}, new tokens", new)
        computed = request.num_computed_tokens
        loading = account.restored_from is not None  # counted when its first step is scheduled
        _require(
            loading or computed <= account.frontier,
            request_id,
            f"computed {computed} > frontier",
            account.frontier,
        )
        ahead = account.frontier - request.num_tokens
        _require(ahead <= 1, request_id, "computed tokens that do not exist yet", ahead)


def check_finished(event: dict[str, Any]) -> None:
    """executed = prompt + output - 1 + recomputed - cached - restored, for a request that ended by itself."""
    expected = event["prompt"] + event["output"] - 1 + event["recomputed"] - event["cached"]
    expected -= event["restored"]
    _require(event["executed"] == expected, event["id"], f"executed {event['executed']}, expected", expected)


def _require(condition: bool, what: str, problem: str, value: Any) -> None:
    if not condition:
        raise ConservationError(f"{what}: {problem} {value}")
