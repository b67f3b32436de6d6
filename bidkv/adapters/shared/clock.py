"""The time that adapters decide by."""

from __future__ import annotations

import time
from collections.abc import Callable

_EPOCH = time.time() - time.monotonic()
SET_S = 0.05  # less is what two looks at two clocks differ by


def steady_time() -> float:
    """Seconds since the epoch, as the wall clock said when this was imported: setting that clock moves no deadline."""
    return _EPOCH + time.monotonic()


def steadied(wall: float) -> float:
    """A time that the wall clock gave just now, in those of `steady_time`. They differ once that clock was set."""
    moved = time.time() - steady_time()
    return wall - moved if abs(moved) > SET_S else wall


class Moment:
    """The time of what an engine is doing: read where that begins, the same for all that is decided in it. So a record
    of these times is enough to decide the same again."""

    __slots__ = ("_clock", "_now")

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._now = clock()

    def begin(self) -> float:
        self._now = self._clock()
        return self._now

    def __call__(self) -> float:
        return self._now
