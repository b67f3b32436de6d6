"""How long an engine's steps take, for policies that reckon in seconds."""

from __future__ import annotations

from bidkv.request import PoolState


class Pace:
    """Keeps `pool.seconds_per_step`, an average that forgets over the steps that did something, and the price of a token.

    `pool.compute_s_per_token` is such an average over the steps with `MANY` prompt tokens or more.

    A step takes from where it was scheduled, or from the end of the one before it where steps overlap,
    to where its output was processed. Steps end in the order they began.
    """

    WEIGHT = 0.01  # of the latest step
    MANY = 256
    PROMPT_WEIGHT = 0.1  # of the latest step with so many

    def __init__(self, pool: PoolState):
        self._pool = pool
        self.restart()

    def restart(self) -> None:
        """Forgets all steps: the pace is again what `PoolState` starts with."""
        self._open: dict[int, tuple[float, int]] = {}  # by what stands for the step
        self._last_end: float | None = None  # None before the first step
        fresh = PoolState()
        self._pool.seconds_per_step = fresh.seconds_per_step
        self._pool.compute_s_per_token = fresh.compute_s_per_token

    def began(self, step: object, t: float, prompt_tokens: int = 0) -> None:
        self._open[id(step)] = t, prompt_tokens

    def ended(self, step: object, t: float) -> None:
        start, prompt_tokens = self._open.pop(id(step), (None, 0))
        if start is None:  # it did nothing
            return
        pool = self._pool
        seconds = t - (start if self._last_end is None else max(start, self._last_end))
        if self._last_end is None:
            pool.seconds_per_step = seconds
        else:
            pool.seconds_per_step += self.WEIGHT * (seconds - pool.seconds_per_step)
        if prompt_tokens >= self.MANY:
            price = seconds / prompt_tokens
            pool.compute_s_per_token += self.PROMPT_WEIGHT * (price - pool.compute_s_per_token)
        self._last_end = t
