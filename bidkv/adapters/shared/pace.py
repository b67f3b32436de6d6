"""How long an engine's steps take, for policies that reckon in seconds."""

from __future__ import annotations

from bidkv.request import PoolState


class Pace:
    """Keeps `pool.seconds_per_step`: an average that forgets, over the steps that did something.

    A step takes from where it was scheduled, or from the end of the one before it where steps overlap,
    to where its output was processed. Steps end in the order they began.
    """

    WEIGHT = 0.01  # of the latest step

    def __init__(self, pool: PoolState):
        self._pool = pool
        self._open: dict[int, float] = {}  # by what stands for the step
        self._last_end: float | None = None  # None before the first step

    def began(self, step: object, t: float) -> None:
        self._open[id(step)] = t

    def ended(self, step: object, t: float) -> None:
        start = self._open.pop(id(step), None)
        if start is None:  # it did nothing
            return
        if self._last_end is None:
            self._pool.seconds_per_step = t - start
        else:
            seconds = t - max(start, self._last_end)
            self._pool.seconds_per_step += self.WEIGHT * (seconds - self._pool.seconds_per_step)
        self._last_end = t
