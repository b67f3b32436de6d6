"""Where each request's time went: seconds by cause, which add up to its life because every span ends where the next begins."""

from __future__ import annotations

from bidkv.adapters.shared.facts import ARRIVAL_S

QUEUE = ("intake", "behind", "memory", "seat", "budget", "policy", "deferred", "paused")
"""Why nobody more starts, the same for all who wait in line:

- intake: nothing is in the way; it is on its way to the scheduler, or the next step takes it
- behind: the first in line does not fit in memory, and they stand behind it
- memory: it is the first in line and does not fit, or one that ran had to give its memory up in this step
- seat: as many run as may (max_num_seqs)
- budget: the step's tokens are used up (max_num_batched_tokens)
- policy: the strategy holds back the first one, which would fit
- deferred: the engine itself puts prompts off for those that decode, or until there are several (SGLang, where told to)
- paused: the engine was told to wait"""
OWN = ("grammar", "lora", "load", "input")
"""Why one is skipped while others start: its grammar compiles, its adapter has no slot, its KV is being loaded, its client
has not sent the next part of its input."""
RUNNING = ("prefill", "decode", "preempted", "recompute")
"""prefill: from its start to its first token; decode: from there on. preempted: waiting again after it lost its KV; recompute:
until it is where it was then."""
CAUSES = (*QUEUE, *OWN, *RUNNING)


class QueueClock:
    """How long each cause has held for the line so far. A request in line reads it twice, so that a step need not go
    through all that wait."""

    def __init__(self, t: float):
        self.cause = "intake"
        self._since = t
        self._seconds = dict.fromkeys(QUEUE, 0.0)

    def turn(self, cause: str, t: float) -> None:
        """From now on it is `cause`."""
        self._seconds[self.cause] += t - self._since
        self.cause, self._since = cause, t

    def read(self, t: float) -> tuple[float, ...]:
        """Seconds by cause, in the order of `QUEUE`."""
        self.turn(self.cause, t)
        return tuple(self._seconds.values())


class Life:
    """One request from its arrival to its end. `cause` is why it is where it is; None while it is in line."""

    __slots__ = ("arrival", "cause", "decodes", "first", "first_t", "seconds", "_clock", "_mark", "_since")

    def __init__(self, clock: QueueClock, arrival: float, t: float):
        self._clock = clock
        self.arrival = arrival if 0 <= t - arrival <= ARRIVAL_S else t  # a wall clock may be set
        self.seconds: dict[str, float] = {"intake": t - self.arrival}
        self.first: dict[str, float] | None = None  # `seconds` up to the first token
        self.first_t: float | None = None
        self.decodes: list[list[float]] = []  # its spans of decoding: from, to
        self.cause: str | None = None
        self._since, self._mark = t, clock.read(t)

    @property
    def waits(self) -> bool:
        """For its start, not for its return."""
        return self.cause not in RUNNING

    def turn(self, cause: str | None, t: float) -> None:
        """The span so far ends, and the next begins; None: it is in line."""
        if cause is not None and cause == self.cause:
            return
        self._close(t)
        if cause is None:
            self._mark = self._clock.read(t)
        elif cause == "decode":
            self.decodes.append([t, t])
        self.cause, self._since = cause, t

    def answered(self, t: float) -> None:
        """It has its first token."""
        self._close(t)
        self._since = t
        self.first, self.first_t = dict(self.seconds), t

    def end(self, t: float) -> None:
        self._close(t)
        self._since = t

    def _close(self, t: float) -> None:
        seconds = self.seconds
        if self.cause is None:
            now = self._clock.read(t)
            for cause, before, after in zip(QUEUE, self._mark, now, strict=True):
                if after != before:
                    seconds[cause] = seconds.get(cause, 0.0) + after - before
            self._mark = now
            return
        seconds[self.cause] = seconds.get(self.cause, 0.0) + t - self._since
        if self.cause == "decode":
            self.decodes[-1][1] = t
