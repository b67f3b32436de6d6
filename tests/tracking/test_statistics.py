"""The bars of the paired statistics, on synthetic data with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from tracking.statistics import confidence_interval, holm, paired_test, pairs_needed, sign_flip_p, verdict


def word(baseline, strategy, better="lower", strategies=1) -> str:
    test = paired_test(baseline, strategy)
    corrected = min(1.0, test.p_value * strategies)
    return verdict(test, corrected, better, strategies)


def seeds_and_noise(rng: np.random.Generator, pairs: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Two runs per block: blocks differ by a lot, runs of a block by `noise` (relative)."""
    blocks = rng.lognormal(1.0, 0.5, pairs)
    return blocks * rng.lognormal(0, noise, pairs), blocks * rng.lognormal(0, noise, pairs)


@pytest.mark.parametrize("pairs", [5, 8, 12])
def test_a_against_a_shows_no_difference_and_covers_zero(pairs):
    baseline, again = seeds_and_noise(np.random.default_rng(3), pairs, 0.03)
    test = paired_test(baseline, again)
    assert test.difference.low < 0 < test.difference.high
    assert test.ratio.low < 1 < test.ratio.high
    assert word(baseline, again) == "no difference shown"
    assert word(baseline, baseline) == "no difference shown"


@pytest.mark.parametrize(
    "better, expected", [("lower", "worse"), ("higher", "better"), ("none", "different")]
)
def test_ten_percent_on_eight_pairs_with_three_percent_noise_is_found(better, expected):
    found = 0
    for seed in range(20):
        baseline, strategy = seeds_and_noise(np.random.default_rng(seed), 8, 0.03)
        found += word(baseline, strategy * 1.1, better) == expected
    assert found == 20


def test_the_intervals_of_the_ratio_cover_the_shift():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(100):
        baseline, strategy = seeds_and_noise(rng, 8, 0.03)
        ratios.append(paired_test(baseline, strategy * 1.1).ratio)
    assert sum(ratio.low <= 1.1 <= ratio.high for ratio in ratios) >= 90
    assert np.mean([ratio.value for ratio in ratios]) == pytest.approx(1.1, abs=0.005)


@pytest.mark.parametrize("pairs", [6, 8, 12])
def test_two_hundred_null_comparisons_give_few_false_verdicts(pairs):
    rng = np.random.default_rng(2026)
    words = [word(*seeds_and_noise(rng, pairs, 0.05)) for _ in range(200)]
    false = sum(w in ("better", "worse") for w in words)
    assert false / 200 <= 0.075
    assert "too few runs" not in words


def test_heavy_tails_without_a_difference_give_few_false_verdicts():
    rng = np.random.default_rng(7)
    words = [word(rng.exponential(1.0, 8), rng.exponential(1.0, 8)) for _ in range(200)]
    assert sum(w in ("better", "worse") for w in words) / 200 <= 0.075


def test_too_few_runs():
    assert word([1, 2, 3, 4], [2, 4, 6, 8]) == "too few runs"
    # five pairs: the interval excludes zero, but no sign flip can reach 5 %
    assert word([1, 2, 3, 4, 5], [2, 4, 6.1, 8, 10]) == "too few runs"
    assert word([1, 2, 3, 4, 5, 6], [2, 4, 6.1, 8, 10, 12]) == "worse"
    assert word([1, 2, 3, 4, 5, 6], [2, 4, 6.1, 8, 10, 12], strategies=4) == "too few runs"


@pytest.mark.parametrize("strategies, pairs", [(1, 6), (2, 7), (4, 8), (11, 9)])
def test_pairs_needed_is_the_fewest_that_can_reach_the_level(strategies, pairs):
    assert pairs_needed(strategies) == pairs
    assert strategies * 2 / 2**pairs <= 0.05 < strategies * 2 / 2 ** (pairs - 1)


def test_metrics_with_zeros_are_compared_by_difference():
    test = paired_test([0, 1, 2, 3, 4, 5], [10, 12, 11, 13, 15, 14.5])
    assert test.ratio is None
    assert test.difference.value == pytest.approx(10.083, abs=0.01)
    assert word([0, 1, 2, 3, 4, 5], [10, 12, 11, 13, 15, 14.5]) == "worse"


def test_the_permutation_is_exact_for_few_pairs():
    assert sign_flip_p(np.ones(5)) == pytest.approx(2 / 2**5)
    assert sign_flip_p(np.ones(8)) == pytest.approx(2 / 2**8)
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert sign_flip_p(np.ones(20)) < 0.001


def test_intervals_are_student_below_eight_pairs_and_bca_from_there():
    few = np.array([1.0, 2.0, 3.0])
    assert confidence_interval(few).high - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-4)
    skewed = np.random.default_rng(0).exponential(1.0, 30)
    interval = confidence_interval(skewed)
    assert interval.high - interval.value > interval.value - interval.low
    assert confidence_interval(skewed, seed=1) == confidence_interval(skewed, seed=1)
    assert np.isnan(confidence_interval(np.array([1.0])).low)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_unequal_or_no_pairs_are_an_error():
    with pytest.raises(ValueError, match="paired values"):
        paired_test([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="paired values"):
        paired_test([], [])
