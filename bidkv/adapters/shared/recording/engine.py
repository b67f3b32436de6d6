"""One engine's recording: who is where, and what of it is written."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
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
ARRIVAL = ("id", "prompt", "max_tokens", "priority", "lora")
ACCOUNT = (
    "id", "prompt", "output", "max_tokens", "executed", "recomputed", "cached", "cached_resume", "restored",
    "restored_resume", "preemptions", "first_scheduled_t", "finish_t", "reason",
)  # fmt: skip
"""What is kept of a `request` event."""


class Recording:
    """Lives of requests by the engine's own names, and the records that come of them.

    `head` describes the engine; it is the first line of every segment. Times are those of the adapter's clock. An engine's
    thread only calls `tell`, with what is to be called in the writer's (the methods that begin with "on") and what that is
    given, and once a step `goes_on`.
    """

    def __init__(self, place: RecordingPlace, head: Mapping[str, Any], t: float):
        first = {"type": "recording", "format": FORMAT, "steps": STEP, "causes": CAUSES, "begun_t": t, **head}
        self._head = encoded(first).encode() + b"\n"
        self._segments = Segments(place, head.get("rank"), self._head)
        self._writer = Writer(self._segments)
        self.tell, self.goes_on = self._writer.tell, self._writer.goes_on
        self._numbers = BlockNumbers()
        self._salt = secrets.token_bytes(16)  # told to nobody: names of sessions can only be compared
        self._queue = QueueClock(t)
        self._lives: dict[str, Life] = {}
        self._aside: dict[str, str] = {}  # who waits for a cause of its own
        self._last_end = 0.0

    def fail(self, error: Exception) -> None:
        self._writer.stop(repr(error))

    def close(self) -> None:
        self._writer.close()

    def decides(self, strategy: Mapping[str, Any], t: float) -> None:
        """Another strategy decides, or the first."""
        record = {"type": "strategy", "t": t, **strategy}
        self._segments.head = self._head + encoded(record).encode() + b"\n"
        if self._writer.begun:
            self.tell((lambda: record,))

    # -- in the writer's thread ----------------------------------------------------------------

    def on_arrival(
        self, name: str, arrival: float, t: float, session: str | None, told: tuple[Any, ...]
    ) -> Record:
        """`told` are the values of `ARRIVAL`."""
        life = self._lives[name] = Life(self._queue, arrival, t)
        salted = None
        if session is not None:
            salted = hashlib.blake2b(
                session.encode(errors="replace"), key=self._salt, digest_size=8
            ).hexdigest()
        values = dict(zip(ARRIVAL, told, strict=True))
        return {"type": "arrival", "arrival_t": life.arrival, "t": t, **values, "session": salted}

    def on_turn(self, name: str, cause: str | None, t: float) -> None:
        """A request is where it is for another cause; None: it is in line."""
        life = self._lives.get(name)
        if life is not None:
            life.turn(cause, t)

    def on_preemption(self, name: str, request_id: str, tokens: int, t: float) -> Record:
        self.on_turn(name, "preempted", t)
        return {"type": "preempt", "id": request_id, "t": t, "tokens": tokens}

    def on_end(self, name: str, account: Mapping[str, Any], hashes: Sequence[bytes]) -> Record | None:
        """`account` is its `request` event, `hashes` those of its full blocks, prompt and output."""
        life = self._lives.pop(name, None)
        self._aside.pop(name, None)
        if life is None:
            return None
        if life.first is None and account["output"]:
            life.answered(account["finish_t"])  # its first token is its last
        life.end(account["finish_t"])
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

    def on_schedule(self, t: float, cause: str, aside: Mapping[str, str], begun: Collection[str]) -> None:
        """A step was scheduled: who is computed for the first time since it started, why nobody more starts, and who of
        those that wait does so for a cause of its own."""
        for name in begun:
            self._aside.pop(name, None)
            life = self._lives.get(name)
            if life is not None:
                life.turn("recompute" if life.cause == "preempted" else "prefill", t)
        if cause != self._queue.cause:
            self._queue.turn(cause, t)
        if aside != self._aside:
            self._set_aside(aside, t)

    def on_step(
        self,
        start: float,
        t: float,
        values: tuple[Any, ...],
        done: Collection[str],
        caught_up: Collection[str],
    ) -> Record:
        """The output of a step was processed. All that is known of those who are `done` is computed: they have their
        first token, or their next; those who `caught_up` are where they were when they were preempted. `values` are those of
        `STEP` behind its times. It began when it was scheduled, or when the one before it ended."""
        for name in done:
            self._computed(name, t)
        for name in caught_up:
            life = self._lives.get(name)
            if life is not None and life.cause == "recompute":
                life.turn("prefill", t)
        begun, self._last_end = max(start, self._last_end), t
        return [round(start, 6), round(t - begun, 7), *values]

    def _computed(self, name: str, t: float) -> None:
        life = self._lives.get(name)
        if life is None or life.cause not in ("prefill", "recompute"):
            return
        if life.first is None:
            life.answered(t)
        life.turn("decode", t)

    def _set_aside(self, now: Mapping[str, str], t: float) -> None:
        before = self._aside
        for name in before.keys() | now.keys():
            life = self._lives.get(name)
            if before.get(name) != now.get(name) and life is not None and life.waits:
                life.turn(now.get(name), t)
        self._aside = dict(now)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """To nanoseconds; what never held is left out."""
    return {cause: round(value, 9) for cause, value in seconds.items() if value}
