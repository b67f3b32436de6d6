"""One engine's recording: who is where, and what of it is written."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from bidkv.adapters.shared.recording.lives import CAUSES, Life, QueueClock
from bidkv.adapters.shared.recording.numbers import BlockNumbers
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.recording.segments import Segments
from bidkv.adapters.shared.recording.writer import Record, Writer, encoded

FORMAT = "bidkv-recording-1"
STEP = (
    "t", "dur", "prefill_tokens", "decode_tokens", "prefill_reqs", "decode_reqs", "context_tokens",
    "prefill_context", "running", "waiting", "used_blocks", "preempted", "cause",
)  # fmt: skip
"""What a line that is a list holds: a step, in this order. The last is why nobody more started (`lives.QUEUE`)."""
ACCOUNT = (
    "id", "prompt", "output", "max_tokens", "executed", "recomputed", "cached", "cached_resume", "restored",
    "restored_resume", "preemptions", "first_scheduled_t", "finish_t", "reason",
)  # fmt: skip
"""What is kept of a `request` event."""


class Recording:
    """Lives of requests by the engine's own names, and the records that come of them.

    `head` describes the engine; it is the first line of every segment. Times are those of the adapter's clock. What is
    written of a request or a step is made up in the writer's thread: here a step waits.
    """

    def __init__(self, place: RecordingPlace, head: Mapping[str, Any], t: float):
        first = {"type": "recording", "format": FORMAT, "steps": STEP, "causes": CAUSES, "begun_t": t, **head}
        self._head = encoded(first).encode() + b"\n"
        self._segments = Segments(place, head.get("rank"), self._head)
        self._writer = Writer(self._segments)
        self._numbers = BlockNumbers()
        self._salt = secrets.token_bytes(16)  # told to nobody: names of sessions can only be compared
        self._last_end = 0.0
        self.queue = QueueClock(t)
        self.lives: dict[str, Life] = {}

    @property
    def stopped(self) -> bool:
        return self._writer.stopped

    def decides(self, strategy: Mapping[str, Any], t: float) -> None:
        """Another strategy decides, or the first."""
        record = {"type": "strategy", "t": t, **strategy}
        self._segments.head = self._head + encoded(record).encode() + b"\n"
        if self._writer.begun:
            self._writer.put(lambda: record)

    def arrived(self, name: str, request_id: str, session: str | None, request: Any, t: float) -> None:
        """`request` is an engine's, with the attributes of vLLM's."""
        life = self.lives[name] = Life(self.queue, request.arrival_time, t)
        lora = request.lora_request
        told = (
            request_id, request.num_prompt_tokens, request.max_tokens, request.priority,
            lora.lora_int_id if lora else None,
        )  # fmt: skip
        self._writer.put(lambda: self._arrival(life.arrival, t, session, told))

    def preempted(self, name: str, request_id: str, tokens: int, t: float) -> None:
        life = self.lives.get(name)
        if life is not None:
            life.turn("preempted", t)
            life.frontier = max(life.frontier, tokens)
        self._writer.put(lambda: {"type": "preempt", "id": request_id, "t": t, "tokens": tokens})

    def ended(self, name: str, account: Mapping[str, Any], hashes: Sequence[bytes]) -> None:
        """`account` is its `request` event, `hashes` those of its full blocks, prompt and output."""
        life = self.lives.pop(name, None)
        if life is not None:
            life.end(account["finish_t"])
            self._writer.put(lambda: self._request(life, account, hashes))

    def step(self, start: float, end: float, values: tuple[Any, ...]) -> None:
        """`values` are those of `STEP` behind its times. It began when it was scheduled, or when the one before it ended."""
        begun, self._last_end = max(start, self._last_end), end
        self._writer.put(lambda: [round(start, 6), round(end - begun, 7), *values])

    def fail(self, error: Exception) -> None:
        self._writer.stop(repr(error))

    def close(self) -> None:
        self._writer.close()

    def _arrival(self, arrival: float, t: float, session: str | None, told: tuple[Any, ...]) -> Record:
        names = ("id", "prompt", "max_tokens", "priority", "lora")
        salted = None
        if session is not None:
            salted = hashlib.blake2b(session.encode(errors="replace"), key=self._salt, digest_size=8).hexdigest()
        values = dict(zip(names, told, strict=True))
        return {"type": "arrival", "arrival_t": arrival, "t": t, **values, "session": salted}

    def _request(self, life: Life, account: Mapping[str, Any], hashes: Sequence[bytes]) -> Record:
        return {
            "type": "request",
            "arrival_t": life.arrival,
            **{key: account[key] for key in ACCOUNT},
            "first_token_t": life.first_t,
            "seconds": _rounded(life.seconds),
            "to_first": None if life.first is None else _rounded(life.first),
            "decodes": life.decodes,
            "blocks": self._numbers.runs(hashes),
        }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """To nanoseconds; what never held is left out."""
    return {cause: round(value, 9) for cause, value in seconds.items() if value}
