"""Shortest declared job first, in which waiting makes a job shorter."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.checks import check_at_least
from bidkv.request import RequestState


class AgedSjf(AdmissionPolicy):
    """Smallest prompt + declared tokens - `tokens_per_second` * seconds waited first.

    All wait equally fast, so that the order of arrival + tokens / `tokens_per_second` never changes.
    """

    name = "aged-sjf"
    source = "shortest job first with linear aging"

    def __init__(self, tokens_per_second: float = 200.0):
        check_at_least(self.name, 1e-9, tokens_per_second=tokens_per_second)
        self.tokens_per_second = tokens_per_second

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        tokens = request.prompt_tokens + request.max_tokens
        return (request.arrival + tokens / self.tokens_per_second,)
