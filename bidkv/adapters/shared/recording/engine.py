"""One engine's recording: who is where, and what of it is written."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
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

    `head` describes the engine; it is the first line of every segment. Times are those of the adapter's clock.
    """

    def __init__(self, place: RecordingPlace, head: Mapping[str, Any], t: float):
        first = {"type": "recording", "format": FORMAT, "steps": STEP, "causes": CAUSES, "begun_t": t, **head}
        self._head = encoded(first).encode() + b"\n"
        self._segments = Segments(place, head.get("rank"), self._head)
        self._writer = Writer(self._segments, self._numbered)
        self._numbers = BlockNumbers()
        self._salt = secrets.token_bytes(16)  # told to nobody: names of sessions can only be compared
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
            self._writer.put(record)

    def arrived(self, name: str, facts: Mapping[str, Any], arrival: float, t: float) -> Life:
        life = self.lives[name] = Life(self.queue, arrival, t)
        session = facts.get("session")
        told = {**facts, "session": None if session is None else self._salted(session)}
        self._writer.put({"type": "arrival", "arrival_t": life.arrival, "t": t, **told})
        return life

    def preempted(self, name: str, request_id: str, tokens: int, t: float) -> None:
        life = self.lives.get(name)
        if life is not None:
            life.turn("preempted", t)
            life.frontier = max(life.frontier, tokens)
        self._writer.put({"type": "preempt", "id": request_id, "t": t, "tokens": tokens})

    def ended(self, name: str, account: Mapping[str, Any], hashes: list[bytes], t: float) -> None:
        """`hashes` are those of its full blocks, prompt and output; they are numbered later, in another thread."""
        life = self.lives.pop(name, None)
        if life is None:
            return
        life.end(t)
        record = {"type": "request", "arrival_t": life.arrival, **{key: account[key] for key in ACCOUNT}}
        record |= {"finish_t": t, "first_token_t": life.first_t, "seconds": _rounded(life.seconds)}
        record["to_first"] = None if life.first is None else _rounded(life.first)
        self._writer.put(record | {"decodes": life.decodes, "blocks": hashes})

    def step(self, values: list[Any]) -> None:
        self._writer.put(values)

    def close(self) -> None:
        self._writer.close()

    def _salted(self, name: str) -> str:
        return hashlib.blake2b(name.encode(errors="replace"), key=self._salt, digest_size=8).hexdigest()

    def _numbered(self, record: Record) -> Record:
        if isinstance(record, dict) and record["type"] == "request":
            return {**record, "blocks": self._numbers.runs(record["blocks"])}
        return record


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """To nanoseconds; what never held is left out."""
    return {cause: round(value, 9) for cause, value in seconds.items() if value}


