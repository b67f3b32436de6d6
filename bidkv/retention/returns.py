"""When idle owners return, learned from those that did and those that did not yet."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from statistics import fmean

from bidkv.owner import Owner

EDGES = tuple(0.05 * 1.35**i for i in range(40))
"""Ages, in seconds since the latest turn, at which bins begin; the last is two hours."""
MIDDLES = tuple((low + high) / 2 for low, high in zip((0.0, *EDGES), (*EDGES, EDGES[-1] * 1.35), strict=True))
WIDTHS = tuple(high - low for low, high in zip((0.0, *EDGES), (*EDGES, EDGES[-1] * 1.35), strict=True))


class Returns:
    """The distribution of pauses of all owners, those that have not ended included (Kaplan and Meier's estimate),
    and of each owner how much longer or shorter its own are.

    `value(owner, now)` is the best ratio, over all times that one may go on keeping its blocks, of the chance that it
    returns by then to the seconds for which they are expected to be kept: Gittins' index of an idle owner, in returns a
    second. Without `enough` pauses that ended it is 0 for all. The latest `memory` pauses count.
    """

    def __init__(self, enough: int, own: float, memory: int = 4096):
        self.enough, self.own, self.memory = enough, own, memory
        self._ended = [0.0] * len(WIDTHS)
        self._open: dict[int, float] = {}  # when each pause began that has not ended, the earliest first
        self._scale = 0.0  # mean logarithm of the pauses that ended
        self._count = 0.0
        self._values = [0.0] * len(WIDTHS)
        self._survive = [1.0] * (len(WIDTHS) + 1)
        self._values_known = False
        self._stale = 0

    def began(self, owner: Owner, now: float) -> None:
        self._open.pop(owner.name, None)
        self._open[owner.name] = now
        if len(self._open) > self.memory:
            del self._open[next(iter(self._open))]

    def ended(self, owner: Owner, now: float) -> None:
        began = self._open.pop(owner.name, None)
        if began is None:
            return
        pause = max(now - began, 1e-3)
        if self._count >= self.memory:  # half of what is known, so that what is new counts
            self._ended = [n / 2 for n in self._ended]
            self._count /= 2
        self._count += 1
        self._scale += (math.log(pause) - self._scale) / self._count
        self._ended[bisect_right(EDGES, pause)] += 1
        self._stale += 1

    def refresh(self, now: float) -> None:
        """Takes in what is new; to be called before values are asked for."""
        if self._count >= self.enough and (self._stale * 16 >= self._count or self._stale >= 64):
            self._survive = self._survival(now)
            self._values, self._stale, self._values_known = self._indices(), 0, True

    def value(self, owner: Owner, now: float) -> float:
        scale = self._own_scale(owner)
        return self._values[bisect_right(EDGES, max(0.0, now - owner.used) * scale)] * scale

    def within(self, owner: Owner, now: float, seconds: float) -> float:
        """The chance that it returns within so many seconds, by the seconds for which it is expected to be kept until
        then: what `value` is the best of. 0 for all without `enough` pauses."""
        if not self._values_known:
            return 0.0
        scale, survive = self._own_scale(owner), self._survive
        start = bisect_right(EDGES, max(0.0, now - owner.used) * scale)
        if survive[start] <= 0:
            return 0.0
        kept, end, until = 0.0, start, MIDDLES[start] + seconds * scale
        while end < len(WIDTHS) and (end == start or MIDDLES[end] <= until):
            kept += WIDTHS[end] * (survive[end] + survive[end + 1]) / 2
            end += 1
        return (survive[start] - survive[end]) / kept * scale if kept else 0.0

    def _own_scale(self, owner: Owner) -> float:
        """How many times shorter its own pauses are than all, the fewer the closer to 1."""
        n = len(owner.pauses)
        if not n or not self.own:
            return 1.0
        own = fmean([math.log(max(pause, 1e-3)) for pause in owner.pauses])
        return math.exp((self._scale - own) * n / (n + self.own))

    def _indices(self) -> list[float]:
        survive = self._survive
        values = [0.0] * len(WIDTHS)
        for start in range(len(WIDTHS)):
            if survive[start] <= 0:
                continue
            kept, best = 0.0, 0.0
            for end in range(start, len(WIDTHS)):
                kept += WIDTHS[end] * (survive[end] + survive[end + 1]) / 2
                best = max(best, (survive[start] - survive[end + 1]) / kept)
            values[start] = best
        return values

    def _survival(self, now: float) -> list[float]:
        """The chance that a pause lasts beyond the beginning of each bin, and of the last one's end."""
        began = list(self._open.values())
        # How many that are still away have been so for longer than each bin's beginning.
        away = [len(began), *(bisect_left(began, now - edge) for edge in EDGES)]
        ended, survive, chance = sum(self._ended), [1.0], 1.0
        for place, count in enumerate(self._ended):
            later = away[place + 1] if place + 1 < len(away) else 0
            at_risk = ended + (away[place] + later) / 2
            if at_risk > 0:
                chance *= 1 - min(1.0, count / at_risk)
            survive.append(chance)
            ended -= count
        return survive
