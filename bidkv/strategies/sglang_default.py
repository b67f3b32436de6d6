"""What SGLang does by default: its own queue order, and the request with the least output retracted."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.strategies.base import AdmissionPolicy, ScoredVictim, Strategy


class EngineOrder(AdmissionPolicy):
    """Leaves the waiting queue as the engine keeps it (SGLang: a preempted request queues at the end)."""

    name = "engine-order"
    source = "SGLang default"
    preempted_first = False

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return ()


class SglangDefaultVictim(ScoredVictim):
    """Fewest output tokens; among those the longest prompt, then the last admitted."""

    name = "sglang_default"
    source = "SGLang, ScheduleBatch.retract_decode with --retraction-policy length"

    def score(self, request: RequestState, now: float) -> tuple[int, int]:
        return (-request.output_tokens, request.prompt_tokens)


class SglangDefaultStrategy(Strategy):
    name = "sglang_default"
    admission_class = EngineOrder
    victim_class = SglangDefaultVictim
