"""How many tokens those that run are expected to add."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.lengths.estimates import Lengths
from bidkv.request import RequestState


class Growth:
    """The sum of expected outputs still to come. A step may wait for it: each request is looked at again only when it
    has generated `EVERY` more tokens, and within a step the sum only grows by those that start."""

    EVERY = 16

    def __init__(self, lengths: Lengths):
        self._lengths = lengths
        self._last = (-1, 0, 0.0)  # the step it was asked in, of how many requests, the sum
        self._expected: dict[
            str, tuple[float, int]
        ] = {}  # whole output, and until how many tokens that is believed

    def of(self, running: Sequence[RequestState], step: int) -> float:
        """Tokens to come of all these together, in the engine's step of that number; 0: no engine's."""
        last, count, total = self._last
        if step and step == last and count <= len(running):  # within a step the engine only adds who starts
            new = running[count:]
        else:
            new, total = running, 0.0
        known = self._expected
        for request in new:
            output = request.output_tokens
            found = known.get(request.request_id)
            if found is None or output >= found[1] or output < found[1] - self.EVERY:
                expected = self._lengths.mean(request)
                found = known[request.request_id] = (expected, output + self.EVERY)
            left = found[0] - output
            total += left if left > 1.0 else 1.0
        if len(known) > 2 * len(running) + 64:
            names = {request.request_id for request in running}
            self._expected = {name: value for name, value in known.items() if name in names}
        self._last = (step, len(running), total)
        return total

    def forget(self, request_id: str) -> None:
        self._expected.pop(request_id, None)
