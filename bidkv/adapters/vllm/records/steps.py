"""What one vLLM step did, for its record."""

from __future__ import annotations

from typing import Any

from bidkv.adapters.vllm.memory.blocks import KVBlocks
from bidkv.adapters.vllm.memory.seats import seats


def occupancy(scheduler: Any, blocks: KVBlocks, refused: bool, preempted: int) -> dict[str, Any]:
    """Queues and memory after a step; `refused` says that a waiting request did not fit in it."""
    running, waiting = scheduler.get_request_counts()
    seats_free = running < seats(scheduler)
    return {
        "running": running,
        "waiting": waiting,
        "used_blocks": blocks.usable - blocks.free(),
        "cached_free_blocks": blocks.cached_free(),
        "preempted": preempted,
        "hol_blocked": bool(waiting and seats_free and (refused or preempted)),
    }
