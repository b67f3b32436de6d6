"""How large a request is in KV token-seconds: what admissions by size share."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.lengths.estimates import Lengths, make_lengths
from bidkv.request import FinishedRequest, RequestState


class SizedAdmission(AdmissionPolicy):
    """An admission that knows how large a request is.

    s = (P + O/2) * O * d / C seconds: a prompt of P tokens and an output that grows to O hold
    (P + O/2) tokens of the C in the pool on average, for O steps of d seconds. O is what the client
    declared, or `lengths="learned"` from finished requests.
    """

    def __init__(self, lengths: str = "declared"):
        self.lengths: Lengths = make_lengths(self.name, lengths)

    def size(self, request: RequestState) -> float:
        """Seconds in which the request would use up the whole pool alone."""
        output = self.lengths.mean(request)
        held = (request.prompt_tokens + output / 2) * output
        return held * self.pool.seconds_per_step / self.pool.capacity_tokens

    def observe(self, finished: FinishedRequest) -> None:
        self.lengths.observe(finished)
