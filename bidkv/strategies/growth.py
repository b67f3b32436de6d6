"""How many tokens those that run are expected to add."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.request import RequestState
from bidkv.strategies.lengths import Lengths


class Growth:
    """The sum of expected outputs still to come. A step may wait for it, so each request is looked at again only when it
    has generated `EVERY` more tokens."""

    EVERY = 16

    def __init__(self, lengths: Lengths):
        self._lengths = lengths
        self._expected: dict[
            str, tuple[float, int]
        ] = {}  # whole output, and until how many tokens that is believed

    def of(self, running: Sequence[RequestState]) -> float:
        """Tokens to come of all these together."""
        known, total = self._expected, 0.0
        for request in running:
            output = request.output_tokens
            found = known.get(request.request_id)
            if found is None or output >= found[1] or output < found[1] - self.EVERY:
                expected = self._lengths.mean(request)
                found = known[request.request_id] = (expected, output + self.EVERY)
            total += max(1.0, found[0] - output)
        if len(known) > 2 * len(running) + 64:
            names = {request.request_id for request in running}
            self._expected = {name: value for name, value in known.items() if name in names}
        return total

    def forget(self, request_id: str) -> None:
        self._expected.pop(request_id, None)
