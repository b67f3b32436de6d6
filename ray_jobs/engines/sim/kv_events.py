"""vLLM's own KV events, handed over in the process: no sockets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vllm.config.kv_events import KVEventsConfig
from vllm.distributed.kv_events import MEDIUM_GPU, AllBlocksCleared, BlockRemoved, BlockStored, EventBatch
from vllm.v1.core.kv_cache_utils import BlockHash, maybe_convert_block_hash

from ray_jobs.engines.routers.news import Block, Cleared, News, Removed, Stored
from ray_jobs.engines.sim.build import SchedulerParts, make_request
from ray_jobs.engines.sim.prefix_hashes import PrefixHashes
from ray_jobs.engines.sim.shortcuts import has_shortcuts
from ray_jobs.workload.trace import TraceRequest


def with_kv_events(parts: SchedulerParts) -> SchedulerParts:
    """The same engine, which makes events of what enters and leaves its prefix cache.

    Raises ValueError for one without such a cache, or whose layers do not all keep every token: which blocks make up a
    beginning differs from layer to layer there.
    """
    key = "engine.router.name='kv-aware'"
    if parts.block_hasher is None:
        raise ValueError(
            f"{key}: must be another with engine.prefix_caching=false, which leaves no KV to go to"
        )
    if not has_shortcuts(parts.kv_cache_config):
        raise ValueError(
            f"{key}: must be another for a model with layers that do not keep every token (windows, states)"
        )
    config = copy.copy(parts.vllm_config)
    config.kv_events_config = KVEventsConfig(enable_kv_cache_events=True, publisher="null")
    return replace(parts, vllm_config=config)


class Publisher:
    """Stands for vLLM's publisher: what a step's end publishes is told at once, of the device's own KV cache."""

    def __init__(self, tell: Callable[[News], None]):
        self._tell = tell

    def publish(self, events: EventBatch) -> None:
        for event in events.events:
            match event:
                case AllBlocksCleared():
                    self._tell(Cleared())
                case BlockStored(medium=medium) if medium == MEDIUM_GPU:
                    self._tell(Stored(event.block_hashes))
                case BlockRemoved(medium=medium) if medium == MEDIUM_GPU:
                    self._tell(Removed(event.block_hashes))

    def shutdown(self) -> None:
        """There is nothing to end."""

    def get_publisher_config(self) -> Any:
        return None


class PromptBlocks:
    """What vLLM's events call the full blocks of a prompt."""

    def __init__(self, parts: SchedulerParts, hashes: PrefixHashes):
        self._parts, self._hashes = parts, hashes
        self._as_numbers = isinstance(
            maybe_convert_block_hash(BlockHash(b"")), int
        )  # vLLM looks it up for each block

    def __call__(self, request: TraceRequest) -> list[Block]:
        made = make_request(
            self._parts,
            request.request_id,
            request.prompt_token_ids.tolist(),
            known=self._hashes.known(request),
            max_tokens=request.output_tokens,
            arrival_time=0.0,
            priority=request.priority,
            declared={},
        )
        self._hashes.remember(request, made.block_hashes[:])
        if not self._as_numbers:
            return made.block_hashes
        return [int.from_bytes(each[-8:], "big") for each in made.block_hashes]
