"""The colour and the order of strategies, and where they stand between mean and tail."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tracking.evidence.frontier import FrontierPoint, undominated
from tracking.evidence.statistics import Interval
from tracking.plots.cdf import thinned
from tracking.plots.ratios import reach_of
from tracking.strategies import COLOURS, KNOWN, in_order, looks

TOUR = (
    "preempt-evict", "preempt-evict-sjf", "static-random", "largest-first", "bidkv", "lcf", "lcf-guard", "cost-aware",
    "least-progress", "priority", "srpt_oracle", "ratio_oracle",
)  # fmt: skip
PROOF = (
    "stock", "stock-watermark-0.05", "backfill", "backfill-deep", "boost", "preempt-evict-sjf", "static-random",
    "largest-first", "bidkv",
)  # fmt: skip


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* of an sRGB colour (white D65), in which 10 is a difference seen at a glance."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1.0, 1.089]]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_twelve_colours_are_told_apart():
    assert len(set(COLOURS)) == 12
    for one, other in combinations((*COLOURS, "#ffffff"), 2):
        assert np.linalg.norm(lab(one) - lab(other)) > 18, (one, other)


@pytest.mark.parametrize("names", [TOUR, PROOF])
def test_the_strategies_of_a_study_have_a_colour_each(names):
    assert len({look[0] for look in looks(names).values()}) == len(names)


def test_a_strategy_looks_the_same_whatever_else_is_drawn():
    everything = looks(KNOWN)
    for names in (TOUR, PROOF, ("boost", "mine[limit=3]"), ("lcf",)):
        assert all(look == everything[name] for name, look in looks(names).items() if name in KNOWN)
    assert len({look for look in everything.values()}) == len(KNOWN)  # by colour, mark and line
    assert looks(["mine"])["mine"] == looks(["mine", "stock"])["mine"]


def test_unknown_names_get_looks_of_their_own_and_stand_last():
    names = [f"mine-{i}" for i in range(12)]
    assert len({look[0] for look in looks(names).values()}) == 12
    assert in_order(["zeta", "boost", "alpha", "stock"]) == ["stock", "boost", "alpha", "zeta"]
    assert in_order(["stock", "boost"], first="boost") == ["boost", "stock"]


def point(name: str, mean: float, tail: float) -> FrontierPoint:
    return FrontierPoint(name, *(Interval(x, np.nan, np.nan) for x in (mean, tail)))


def test_the_frontier_keeps_what_no_other_beats_in_both():
    points = [
        point("stock", 1, 1),
        point("a", 0.9, 1.1),
        point("b", 0.95, 0.9),
        point("c", 0.92, 1.2),
        point("b2", 0.95, 0.9),
    ]
    assert [p.strategy for p in undominated(points)] == ["a", "b", "b2"]


def test_axes_of_ratios_reach_the_farthest_that_can_be_drawn():
    assert reach_of([0.9, 1.1, np.nan, np.inf, 0.0]) == pytest.approx(1.08 * -np.log(0.9))
    assert np.exp(reach_of([100.0])) < 4.3


def test_a_thinned_distribution_keeps_its_end():
    kept = thinned(50_000)
    assert len(kept) < 1300 and kept[0] == 0 and set(range(49_990, 50_000)) <= set(kept)
    assert len(thinned(100)) == 100
