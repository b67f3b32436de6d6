"""The bars of the verdicts, in short: `scripts/verdict_bars.py` has them in full, 2,000 sweeps each."""

from __future__ import annotations

import numpy as np
import pytest

from ray_jobs.workload.windows import rows_of
from scripts.verdict_bars import NOISES, correlated_file, null_sweeps, power
from tracking.evidence.neighbours import chained
from tracking.evidence.spread import spread_of
from tracking.evidence.statistics import paired_test


@pytest.mark.parametrize("pairs", [8, 14])
@pytest.mark.parametrize("noise", NOISES)
def test_null_sweeps_of_27_cells_are_rarely_called_and_intervals_cover(noise, pairs):
    called, covered, _ = null_sweeps(NOISES[noise], pairs, 40, np.random.default_rng(pairs))
    assert called <= 0.05 and covered >= 0.93


@pytest.mark.parametrize("pairs", [6, 10, 16])
def test_the_interval_of_a_skewed_comparison_alone_covers(pairs):
    noise = np.random.default_rng(pairs).standard_exponential((600, pairs)) - 1
    covers = [not paired_test(np.ones(pairs), np.exp(0.02 * row)).excludes_equal for row in noise]
    assert np.mean(covers) >= 0.93


@pytest.mark.parametrize("cells", [1, 27])
def test_five_percent_at_two_percent_noise_is_found_on_eight_pairs(cells):
    assert power(8, cells, 200 if cells == 1 else 60, np.random.default_rng(1)) >= 0.80


def test_spread_is_borrowed_where_a_family_is_alike_and_nowhere_else():
    random = np.random.default_rng(0)
    alike = list(0.02 * random.standard_normal((27, 8)))
    apart = [sample * 10 ** (number % 3) for number, sample in enumerate(alike)]
    told = spread_of(alike, 0.5)
    assert (
        told.variance == pytest.approx(0.02**2, rel=0.2) and told.borrowed(8) == 7 and told.borrowed(4) == 3
    )
    assert (
        spread_of(apart, 0.5).freedom
        == spread_of(alike, 2.0).freedom
        == spread_of(alike[:1], 0.5).freedom
        == 0
    )
    rounding = [np.ones(8) + 1e-15 * random.standard_normal(8) for _ in range(9)]
    assert spread_of([*alike, *rounding], 0.5) == told
    called, covered, _ = null_sweeps(NOISES["normal"], 8, 40, random, size=0.2, apart=0.5)
    assert called <= 0.05 and covered >= 0.93


def test_windows_next_to_each_other_cover_as_blocks():
    rows = sorted((rows_of(seed, 2000, 19366) for seed in range(9)), key=lambda r: r.begin)
    of = chained([(r.begin, r.end) for r in rows])
    random, covers = np.random.default_rng(3), {True: 0, False: 0}
    for _ in range(200):
        series = correlated_file(random, 19366, 2000)
        means = np.exp(0.1 * np.array([series[r.begin : r.end].mean() for r in rows]))
        for grouped in covers:
            covers[grouped] += not paired_test(
                np.ones(9), means, groups=of if grouped else None
            ).excludes_equal
    assert covers[True] / 200 >= 0.93 > covers[False] / 200
