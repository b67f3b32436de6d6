"""When SGLang need not look at its waiting queue, since nobody could start."""

from __future__ import annotations

from typing import Any

from bidkv.adapters.sglang.admission import AdmissionRound
from bidkv.adapters.shared.session import Session


class Stall:
    """Uses the flag that SGLang itself sets (`batch_is_full`) when the first in line does not fit, and that it takes back when
    somebody leaves. A policy has more reasons to look again: somebody came, passers may go by themselves now, or
    `AFTER` steps have gone by, since what it expects of those that run has changed; one more for each `PER_STEP` tokens of
    the prompts that were looked up, so that a step takes hardly longer for them.
    """

    AFTER = 8
    PER_STEP = 4096

    def __init__(self) -> None:
        self._batch: Any = None  # whose flag was set here
        self._steps = 0  # that have still to go by
        self._waits_alone = False

    def begin(self, turn: AdmissionRound) -> None:
        """A look in which somebody had to wait is over."""
        self._batch, self._waits_alone = turn.batch, turn.waits_alone
        self._steps = self.AFTER + turn.looked // self.PER_STEP
        self._batch.batch_is_full = True

    def step(self, session: Session, decodes: int) -> None:
        """Before each step: ends when another look may be of use."""
        if self._batch is None:
            return
        self._steps -= 1
        if self._steps <= 0 or (self._waits_alone and session.passes_alone(decodes, session.pool.running)):
            self.end()

    def end(self) -> None:
        """SGLang looks again."""
        if self._batch is not None:
            self._batch.batch_is_full = False
            self._batch = None
