"""Mean against tail: where each strategy stands to the baseline, and which are not beaten in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracking.evidence.paired import Table
from tracking.evidence.pooled import p99_pairing
from tracking.evidence.statistics import Interval, paired_test

TAIL = "e2e_p99_s"
MEANS = ("e2e_rmst_s", "e2e_mean_s")  # the first that was compared


@dataclass(frozen=True)
class FrontierPoint:
    """One strategy's mean and p99 E2E as ratios to the baseline, with 95 % intervals (NaN where unknown)."""

    strategy: str
    mean: Interval
    tail: Interval

    def beaten_by(self, other: FrontierPoint) -> bool:
        mine, theirs = (self.mean.value, self.tail.value), (other.mean.value, other.tail.value)
        return theirs != mine and theirs[0] <= mine[0] and theirs[1] <= mine[1]


def frontier_points(table: Table) -> list[FrontierPoint]:
    """The baseline first, then the strategies that have both numbers, in the table's order."""
    points = [FrontierPoint(table.baseline, *[Interval(1.0, np.nan, np.nan)] * 2)]
    for name in table.strategies:
        row = next((row for metric in MEANS if (row := table.find(metric, name))), None)
        tail = _tail_ratio(table, name)
        if row is not None and row.test.ratio is not None and tail is not None:
            point = FrontierPoint(name, row.test.ratio, tail)
            if np.isfinite([point.mean.value, point.tail.value]).all():
                points.append(point)
    return points


def undominated(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """Those that no other beats in one number without losing in the other, from the fastest mean on."""
    kept = [point for point in points if not any(point.beaten_by(other) for other in points)]
    return sorted(kept, key=lambda point: (point.mean.value, point.tail.value))


def _tail_ratio(table: Table, strategy: str) -> Interval | None:
    """As the guardrail has it, else from the requests; None if they are too few for a p99."""
    for check in table.guards(strategy):
        if check.metric == TAIL:
            return check.ratio
    found = p99_pairing(table.blocks, table.baseline, strategy, TAIL)
    if found is None or not found.seeds:
        return None
    return paired_test(found.baseline, found.strategy, by_ratio=True).ratio
