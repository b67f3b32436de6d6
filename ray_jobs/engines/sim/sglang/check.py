"""Verifies between two rounds of SGLang's loop that it has lost no page, no token and no request."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from ray_jobs.engines.sim.conservation import check_account, must
from ray_jobs.engines.sim.sglang.adapter import VirtualAdapter
from ray_jobs.engines.sim.sglang.scheduler import VirtualScheduler


def check_conservation(scheduler: VirtualScheduler, adapter: VirtualAdapter) -> None:
    """Raises ConservationError. Walks the whole pool."""
    check_requests(scheduler, adapter)
    check_pages(scheduler)
    check_tokens(scheduler, adapter)


def holders(scheduler: VirtualScheduler) -> list[Any]:
    """Requests that have a row of the request-to-token table, each once."""
    batches = [scheduler.running_batch, scheduler.last_batch, *(batch for batch, _ in scheduler.result_queue)]
    reqs = [req for batch in batches if batch is not None for req in batch.reqs]
    if scheduler.chunked_req is not None:
        reqs.append(scheduler.chunked_req)
    return [req for req in {id(req): req for req in reqs}.values() if req.kv.holds_kv]


def check_requests(scheduler: VirtualScheduler, adapter: VirtualAdapter) -> None:
    """Every request that came and has not left waits or has memory, and is in one of these places."""
    waiting = [req.rid for req in scheduler.waiting_queue]
    running = [req.rid for req in holders(scheduler) if not req.finished()]
    places = Counter([*waiting, *running])
    must(max(places.values(), default=1) == 1, "requests", "one is in two places", places)
    live = set(adapter.accounts)
    must(set(places) == live, "requests", "not all wait or run", set(places) ^ live)
    for req in scheduler.waiting_queue:
        must(not req.kv.holds_kv, req.rid, "waits but holds memory", req.kv)
    rows = scheduler.req_to_token_pool
    held = len(holders(scheduler))
    must(
        rows.available_size() + held == rows.size,
        "rows",
        f"{held} held of {rows.size}, free",
        rows.available_size(),
    )


def check_pages(scheduler: VirtualScheduler) -> None:
    """A page is free, or in the radix tree, or one request's own; together they are the pool. Page 0 is SGLang's padding."""
    allocator, tree = scheduler.token_to_kv_pool_allocator, scheduler.tree_cache
    size = allocator.page_size
    total = allocator.size // size
    free = allocator.get_all_free_pages()
    cached = torch.empty(0, dtype=torch.int64) if tree.disable else pages_of(tree.all_values_flatten(), size)
    owned = [torch.empty(0, dtype=torch.int64)]
    in_tree = torch.zeros(total + 1, dtype=torch.bool)
    in_tree[cached] = True
    table = scheduler.req_to_token_pool.req_to_token
    for req in holders(scheduler):
        slots = table[req.kv.req_pool_idx, : req.kv.kv_allocated_len].long()
        shared, own = slots[: req.kv.cache_protected_len], slots[req.kv.cache_protected_len :]
        strange = shared[~in_tree[shared // size]].tolist()
        must(not strange, req.rid, "goes by slots as shared that are not in the tree:", strange[:8])
        owned.append(pages_of(own, size))
    held = torch.cat(owned)
    counts = torch.bincount(torch.cat((free, cached, held)), minlength=total + 1)
    twice = (counts > 1).nonzero().flatten().tolist()
    must(not twice, "pages", "free, cached or held more than once:", twice[:8])
    kinds = f"{len(free)} free + {len(cached)} cached + {len(held)} held are not"
    must(int(counts.sum()) == total and not counts[0], "pages", kinds, total)
    tokens = 0 if tree.disable else tree.evictable_size() + tree.protected_size()
    must(
        tokens == len(cached) * size,
        "tree",
        f"{tokens} tokens are evictable or protected, cached",
        len(cached) * size,
    )


def pages_of(slots: torch.Tensor, size: int) -> torch.Tensor:
    return slots if size == 1 else torch.unique(slots // size)


def check_tokens(scheduler: VirtualScheduler, adapter: VirtualAdapter) -> None:
    """What was computed for each is what SGLang has of it."""
    known = {req.rid: req for req in (*scheduler.waiting_queue, *holders(scheduler))}
    for request_id, account in adapter.accounts.items():
        check_account(request_id, account)
        req = known[request_id]
        must(
            account.computed <= account.frontier,
            request_id,
            f"computed {account.computed} > frontier",
            account.frontier,
        )
        ahead = account.frontier - len(req.origin_input_ids) - len(req.output_ids)
        must(ahead <= 1, request_id, "computed tokens that do not exist yet", ahead)
        if req.kv.holds_kv:
            must(
                account.computed <= req.kv.kv_allocated_len,
                request_id, f"has more tokens ({account.computed}) than room", req.kv.kv_allocated_len,
            )  # fmt: skip
