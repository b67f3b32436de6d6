"""What one vLLM step did, for its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.vllm.blocks import KVBlocks


def count_tokens(
    scheduled: Mapping[str, int],
    requests: Mapping[str, Any],
    accounts: Mapping[str, RequestAccount],
    t: float,
) -> dict[str, int]:
    """Charges the tokens of a step that was just scheduled (all by request id) to their accounts; the sums."""
    prefill_tokens = decode_tokens = prefill_reqs = decode_reqs = context = prefill_context = 0
    for request_id, tokens in scheduled.items():
        request = requests[request_id]
        before = request.num_computed_tokens - tokens  # schedule() has added them already
        context += before
        if accounts[request_id].scheduled(before, tokens, t):
            decode_tokens += tokens
            decode_reqs += 1
        else:
            prefill_tokens += tokens
            prefill_reqs += 1
            prefill_context += before
    return {
        "prefill_tokens": prefill_tokens,
        "decode_tokens": decode_tokens,
        "prefill_reqs": prefill_reqs,
        "decode_reqs": decode_reqs,
        "context_tokens": context,
        "prefill_context": prefill_context,
    }


def occupancy(scheduler: Any, blocks: KVBlocks, refused: bool, preempted: int) -> dict[str, Any]:
    """Queues and memory after a step; `refused` says that a waiting request did not fit in it."""
    running, waiting = scheduler.get_request_counts()
    seats_free = running < getattr(scheduler, "max_num_active_reqs", scheduler.max_num_running_reqs)
    return {
        "running": running,
        "waiting": waiting,
        "used_blocks": blocks.usable - blocks.free(),
        "cached_free_blocks": blocks.cached_free(),
        "preempted": preempted,
        "hol_blocked": bool(waiting and seats_free and (refused or preempted)),
    }
