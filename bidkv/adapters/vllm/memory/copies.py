"""What vLLM's own host memory for KV blocks has a copy of, for rules that choose what leaves the device."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from vllm.v1.kv_offload.base import make_offload_key
from vllm.v1.kv_offload.cpu.manager import CPUOffloadingManager

from bidkv.adapters.shared.layout import UnknownLayoutError
from bidkv.adapters.vllm.memory.host_eviction import RetentionEviction

FORWARDS = {"NixlPullConnector", "NixlPushConnector", "NixlConnector", "MooncakeConnector", "MoRIIOConnector"}
"""Connectors that only pass KV from engine to engine: what leaves the device is lost, as without them."""


class HostCopies:
    """Asks the manager of vLLM's `OffloadingConnector`, of one KV cache group.

    It gives up the last blocks of a chain first, so what it has of one is its beginning, as long as it is told of every use
    of it: vLLM (0.32, 0.33) tells it of the blocks that are loaded, not of those before them that the device still had.
    Their copies would get old, leave, and take with them all that is behind; `used` says so.
    """

    def __init__(self, scheduler: Any, hashes_per_chunk: int):
        self._scheduler, self._manager, self._chunk = scheduler, scheduler.manager, hashes_per_chunk
        self.eviction = _ours(self._manager)
        """Where what it gives up next is ours to say."""

    def leading(self, hashes: Sequence[bytes], length: int, known: int) -> int:
        """How many of the first `length` blocks of a chain have copies that are complete; `known` is the answer that is
        likely. Two lookups if it is right."""
        size = self._chunk
        chunks, known = length // size, min(known, length) // size
        if (not known or self._has(hashes, known - 1)) and (known == chunks or not self._has(hashes, known)):
            return known * size
        return size * bisect_left(range(chunks), True, key=lambda place: not self._has(hashes, place))

    def used(self, request_id: str, tokens: int) -> None:
        """A request starts that loads what is behind its first `tokens`, which the device has still."""
        state, manager = self._scheduler._req_status[request_id], self._manager
        for group, config in zip(state.group_states, self._scheduler.config.kv_group_configs, strict=True):
            keys = group.offload_keys[: tokens // config.tokens_per_chunk]
            there = [key for key in keys if manager.lookup(key, state.req_context).name == "HIT"]
            manager.touch(there, state.req_context)  # not to leave before the request has ended; then
            manager.prepare_load(there, state.req_context)  # all that it used is noted again, in its order
            manager.complete_load(there, state.req_context)

    def _has(self, hashes: Sequence[bytes], place: int) -> bool:
        key = make_offload_key(hashes[(place + 1) * self._chunk - 1], 0)
        return self._manager.lookup(key, None).name == "HIT"


def host_copies(connector: Any) -> HostCopies | None:
    """None where nobody tells, without side effects, what is held: another connector, tiers behind host memory, or one that
    counts who asks (`store_threshold`). Raises `UnknownLayoutError` where it is to evict by our rules and cannot."""
    scheduler = getattr(connector, "connector_scheduler", None)
    manager = getattr(scheduler, "manager", None)
    tells = isinstance(manager, CPUOffloadingManager) and manager.counts is None
    chunk = scheduler.config.kv_group_configs[0].hashes_per_chunk if tells else 0
    ours = _ours(manager) or _ours(getattr(manager, "primary_tier", None))
    if ours is not None and chunk != 1:
        raise UnknownLayoutError(
            "eviction_policy 'RetentionEviction' needs vLLM's host memory alone, a block at a time (no tiers behind it, no "
            "store_threshold, no other block_size in kv_connector_extra_config); choose 'lru'"
        )
    return HostCopies(scheduler, chunk) if tells else None


def _ours(manager: Any) -> RetentionEviction | None:
    policy = getattr(manager, "_policy", None)
    return policy if isinstance(policy, RetentionEviction) else None


def only_forwards(connector: Any) -> bool:
    return type(connector).__name__ in FORWARDS
