"""Who has the least output is evicted: what SGLang does by default."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class SglangDefaultVictim(ScoredVictim):
    """Fewest output tokens; among those the longest prompt, then the last admitted."""

    name = "sglang_default"
    source = "SGLang, ScheduleBatch.retract_decode with --retraction-policy length"

    def score(self, request: RequestState, now: float) -> tuple[int, int]:
        return (-request.output_tokens, request.prompt_tokens)
