"""Shortest first, where short is what a request takes of the KV cache integrated over time."""

from __future__ import annotations

from bidkv.admission.sizes import SizedAdmission
from bidkv.request import RequestState


class TokenSeconds(SizedAdmission):
    """Smallest s first, then arrival."""

    name = "token-seconds"

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (self.size(request), request.arrival)
