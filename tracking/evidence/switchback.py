"""A verdict on pairs of blocks of live traffic whose order was drawn: randomisation inference.

Traffic swings by the hour, so blocks that lie near each other are alike and no independent observations. But which
block of a pair had the strategy a coin decided. If the strategy changes nothing, each pair's log-ratio would have had the
other sign with the same probability, whatever the traffic did: how far their mean is off under other throws of those
coins is its distribution, exactly (Bojinov, Simchi-Levi and Zhao 2023, "Design and analysis of switchback
experiments"). The 95 % interval has the ratios that such a test does not refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np

from tracking.evidence.statistics import ALPHA, Interval, PairedTest, paired_test

EXACT = 14  # pairs of which every throw is looked at
THROWS = 20_000  # of more pairs, drawn
SEED = 26
TRIES = 50  # halvings of where an end of the interval lies


class SwitchbackTest(PairedTest):
    """A `PairedTest` whose interval and p come from the throws."""

    @cached_property
    def effect(self) -> Interval:
        """The mean log-ratio with its 95 % interval; the ends are infinite where too few pairs refuse anything."""
        scores, mean = self.scores, float(self.scores.mean())
        spread = float(np.abs(scores - mean).max()) + abs(mean) + 1e-12
        thrown, balance = self._throws @ scores, self._throws.sum(axis=1)

        def refused(value: float) -> bool:
            farther = np.abs(thrown - value * balance) >= abs(scores.sum() - value * len(scores)) - 1e-12
            return float(farther.mean()) <= ALPHA

        def end(direction: int) -> float:
            inside, outside = mean, mean + direction * 4 * spread
            if not refused(outside):
                return direction * np.inf
            for _ in range(TRIES):
                middle = (inside + outside) / 2
                inside, outside = (inside, middle) if refused(middle) else (middle, outside)
            return outside

        return Interval(mean, end(-1), end(1))

    @cached_property
    def p_value(self) -> float:
        """Two-sided, against "no farther from equal than the margin"."""
        if not np.any(self.scores):
            return 1.0
        up = _share_beyond(self.scores - self.margin, self._throws)
        down = _share_beyond(-self.scores - self.margin, self._throws)
        return min(1.0, 2 * min(up, down))

    @cached_property
    def _throws(self) -> np.ndarray:
        """Rows of +1 and -1, one a pair; the one that was thrown is the first."""
        n = len(self.scores)
        if n <= EXACT:
            return np.array(list(product((1.0, -1.0), repeat=n)))
        drawn = np.random.default_rng([SEED, n]).integers(0, 2, (THROWS, n)) * 2.0 - 1.0
        drawn[0] = 1.0
        return drawn


def switchback_test(
    baseline: Sequence[float], strategy: Sequence[float], matters: float = 0.0
) -> SwitchbackTest:
    """Compares positive values of the same pairs of blocks. Raises ValueError on none or unequal lengths."""
    test = paired_test(baseline, strategy, matters=matters, by_ratio=True, skew=0.0)
    return SwitchbackTest(**{name: getattr(test, name) for name in test.__dataclass_fields__})


def _share_beyond(scores: np.ndarray, throws: np.ndarray) -> float:
    """Of the throws, those whose mean is as large as the one that was thrown."""
    return float((throws @ scores >= scores.sum() - 1e-12).mean())
