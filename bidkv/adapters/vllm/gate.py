"""Who may start, and when: memory, the headroom a policy asks for, and the policy's own word."""

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
        self._decodes = 0  # steps in a row in which no prompt was computed

    def stepped(self, prompt_tokens: int) -> None:
        """A step was scheduled that does something."""
        self._decodes = 0 if prompt_tokens else self._decodes + 1

    def may_pass(self) -> bool:
        """Whether who passes the first in line adds no step with a prompt to this one, or not too soon."""
        running = self._scheduler.running
        if not running or self._session.strategy.admission.passes_alone(self._decodes):
            return True
        # Whoever starts or goes on in this step with more than its next token is among the running already.
        return any(request.num_computed_tokens + 1 < request.num_tokens for request in reversed(running))

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
