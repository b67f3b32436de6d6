"""Who may start: memory, the headroom a policy asks for, and the policy's own word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.session import Session
from bidkv.adapters.vllm.blocks import KVBlocks
from bidkv.request import RequestState


class Gate:
    """Answers for one scheduler. `state_of` gives a request's `RequestState` as of now."""

    def __init__(
        self, scheduler: Any, blocks: KVBlocks, session: Session, state_of: Callable[[Any], RequestState]
    ):
        self._scheduler, self._blocks, self._session = scheduler, blocks, session
        self._state_of = state_of

    def fits(self, request: Any) -> bool:
        """Whether vLLM would find room for all its tokens, and the policy would let it start."""
        return self._blocks.needed(request) <= self._blocks.free() and self.open_to(request)

    def open_to(self, request: Any) -> bool:
        """Whether the policy lets a waiting request start. Always, when nothing runs."""
        session, running = self._session, self._scheduler.running
        if not (running and session.orders_waiting and session.strategy.admission.gates):
            return True
        admission, blocks = session.strategy.admission, self._blocks
        free, needed = blocks.free(), blocks.needed(request)
        if needed + int(admission.headroom * blocks.total) > free:
            return False
        if not admission.asks:
            return True
        session.pool.free_tokens = free * blocks.block_size
        session.pool.needed_tokens = needed * blocks.block_size
        return session.admits(self._state_of(request), [self._state_of(r) for r in running])
