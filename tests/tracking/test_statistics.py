"""The bars of the paired statistics, on synthetic data with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from tracking.evidence.statistics import (
    confidence_interval,
    detectable,
    holm,
    paired_test,
    pairs_needed,
    sign_flip_p,
    verdict,
)


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
    assert word(baseline, baseline) == "equivalent"


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


def test_of_a_thousand_null_comparisons_at_most_five_percent_are_called():
    """250 sweeps of four strategies: the chance that a sweep calls any of its four is the one that counts."""
    rng, called = np.random.default_rng(9), 0
    for _ in range(250):
        blocks = rng.lognormal(1.0, 0.5, 8)
        base, *others = (blocks * rng.lognormal(0, 0.03, 8) for _ in range(5))
        tests = [paired_test(base, other, matters=0.005) for other in others]
        corrected = holm([test.p_value for test in tests])
        words = {verdict(t, p, "lower", 4) for t, p in zip(tests, corrected, strict=True)}
        called += bool(words & {"better", "worse"})
    assert called / 250 <= 0.05


def test_null_comparisons_in_which_both_fail_now_and_then_are_rarely_called():
    rng, called = np.random.default_rng(5), 0
    for _ in range(300):
        baseline, strategy = seeds_and_noise(rng, 10, 0.05)
        baseline[rng.random(10) < 0.15] = np.inf
        strategy[rng.random(10) < 0.15] = np.inf
        called += word(baseline, strategy) in ("better", "worse")
    assert called / 300 <= 0.05


def test_five_percent_on_eight_pairs_with_two_percent_noise_is_found_in_four_of_five():
    rng, found = np.random.default_rng(11), 0
    for _ in range(200):
        baseline, strategy = seeds_and_noise(rng, 8, 0.02)
        test = paired_test(baseline, strategy * 1.05, matters=0.005)
        found += verdict(test, test.p_value, "lower", 1) == "worse"
    assert found / 200 >= 0.80


@pytest.mark.parametrize("pairs, comparisons", [(8, 1), (8, 4), (12, 12)])
def test_what_is_called_detectable_is_found_in_about_four_of_five(pairs, comparisons):
    rng, noise, margin = np.random.default_rng(13), 0.03, 0.005
    sizes = [detectable(rng.normal(0, noise, pairs), margin, comparisons) for _ in range(200)]
    size = float(np.mean(sizes))
    p = [sign_flip_p(rng.normal(size, noise, pairs), margin=margin) for _ in range(400)]
    assert 0.70 <= np.mean(np.array(p) * comparisons <= 0.05) <= 0.93


def test_too_few_pairs_detect_nothing():
    assert np.isinf(detectable(np.ones(7), 0.0, 4))
    assert np.isnan(detectable(np.array([1.0, np.inf, 2.0]), 0.0))


def test_a_margin_moves_the_test_not_only_the_word():
    values = np.array([0.006, 0.007, 0.008, 0.006, 0.007, 0.0075, 0.008, 0.0065])
    assert sign_flip_p(values) == sign_flip_p(values, margin=0.005) == pytest.approx(2 / 2**8)
    assert sign_flip_p(values, margin=0.01) == 1.0
    assert sign_flip_p(-values, margin=0.005) == pytest.approx(2 / 2**8)


def test_the_interval_after_failures_is_wilcoxons():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.inf])
    interval = confidence_interval(values)
    assert (interval.low, interval.high) == (1.0, np.inf) and 2 < interval.value < 5
    assert confidence_interval(values[1:]).low == -np.inf  # five pairs have no 95 % interval
    assert confidence_interval(np.full(3, np.inf)).low == np.inf


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
