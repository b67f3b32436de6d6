"""Keeps the requests that are closest to missing their deadline."""

from __future__ import annotations

import math

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class SlackAware(ScoredVictim):
    """Evicts the most slack = deadline - now - seconds_per_token * (max_tokens - output tokens), in seconds.

    A request without a deadline has endless slack. With `seconds_per_token` 0 the earliest deadline is kept.
    """

    name = "slack_aware"
    source = "least slack time first (real-time scheduling)"

    def __init__(self, seconds_per_token: float = 0.0):
        if seconds_per_token < 0:
            raise BidValidationError(f"slack_aware: seconds_per_token must be >= 0, got {seconds_per_token}")
        self.seconds_per_token = seconds_per_token

    def score(self, request: RequestState, now: float) -> float:
        if request.deadline is None:
            return math.inf
        remaining = max(0, request.max_tokens - request.output_tokens)
        return request.deadline - now - self.seconds_per_token * remaining
