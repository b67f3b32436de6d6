"""The bars of the paired statistics, on synthetic data with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from tracking.evidence.skewed import critical_t, skew_bound, t_p_value
from tracking.evidence.statistics import (
    confidence_interval,
    detectable,
    holm,
    mean_p,
    paired_test,
    verdict,
)


def word(baseline, strategy, better="lower", strategies=1) -> str:
    test = paired_test(baseline, strategy)
    corrected = min(1.0, test.p_value * strategies)
    return verdict(test, corrected, better)


def seeds_and_noise(rng: np.random.Generator, pairs: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Two runs per block: blocks differ by a lot, runs of a block by `noise` (relative)."""
    blocks = rng.lognormal(1.0, 0.5, pairs)
    return blocks * rng.lognormal(0, noise, pairs), blocks * rng.lognormal(0, noise, pairs)


@pytest.mark.parametrize("pairs", [6, 8, 12])
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
    assert found >= 17


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
        words = {verdict(t, p, "lower") for t, p in zip(tests, corrected, strict=True)}
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
        found += verdict(test, test.p_value, "lower") == "worse"
    assert found / 200 >= 0.80


@pytest.mark.parametrize("pairs, comparisons", [(8, 1), (8, 4), (12, 12)])
def test_what_is_called_detectable_is_found_in_about_four_of_five(pairs, comparisons):
    rng, noise, margin = np.random.default_rng(13), 0.03, 0.005
    sizes = [detectable(rng.normal(0, noise, pairs), margin, comparisons) for _ in range(200)]
    size = float(np.mean(sizes))
    p = [mean_p(rng.normal(size, noise, pairs), margin) for _ in range(400)]
    assert 0.70 <= np.mean(np.array(p) * comparisons <= 0.05) <= 0.93


def test_too_few_pairs_detect_nothing():
    assert np.isinf(paired_test([1.0, 2, 3, 4, 5], [1.1, 2.3, 3.2, 4.4, 5.1]).smallest_shown())
    assert np.isnan(detectable(np.array([1.0, np.inf, 2.0]), 0.0))


def test_a_margin_moves_the_test_not_only_the_word():
    values = np.array([0.006, 0.007, 0.008, 0.006, 0.007, 0.0075, 0.008, 0.0065])
    assert mean_p(values) < mean_p(values, 0.005) < 0.001
    assert mean_p(values, 0.01) == 1.0
    assert mean_p(-values, 0.005) == mean_p(values, 0.005)


def test_after_failures_there_are_signs_and_the_median():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.inf])
    interval = confidence_interval(values)
    assert (interval.low, interval.value, interval.high) == (1.0, 3.5, np.inf)
    assert mean_p(values) == pytest.approx(2 / 2**6)
    assert confidence_interval(values[1:]).low == -np.inf  # five pairs have no 95 % interval
    assert confidence_interval(np.full(3, np.inf)).low == np.inf


def test_heavy_tails_without_a_difference_give_few_false_verdicts():
    rng = np.random.default_rng(7)
    words = [word(rng.exponential(1.0, 8), rng.exponential(1.0, 8)) for _ in range(200)]
    assert sum(w in ("better", "worse") for w in words) / 200 <= 0.075


def test_too_few_runs():
    assert word([1, 2, 3, 4, 5], [2, 4, 6.1, 8, 10]) == "too few runs"
    assert word([1, 2, 3, 4, 5, 6], [2, 4, 6.1, 8, 10, 12]) == "worse"


def test_metrics_with_zeros_are_compared_by_difference():
    test = paired_test([0, 1, 2, 3, 4, 5], [10, 12, 11, 13, 15, 14.5])
    assert test.ratio is None
    assert test.difference.value == pytest.approx(10.083, abs=0.01)
    assert word([0, 1, 2, 3, 4, 5], [10, 12, 11, 13, 15, 14.5]) == "worse"


def test_without_skew_it_is_students_t():
    few = np.array([1.0, 2.0, 3.0])
    assert confidence_interval(few).high - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-4)
    assert mean_p(few) == pytest.approx(0.074180, rel=1e-4)
    assert mean_p(np.zeros(5)) == 1.0 and mean_p(np.ones(8)) == 0.0
    assert np.isnan(confidence_interval(np.array([1.0])).low)


def test_few_pairs_are_taken_to_be_as_skewed_as_may_be_and_many_speak_for_themselves():
    rng = np.random.default_rng(4)
    normal, skewed = rng.normal(size=(27, 8)), rng.exponential(size=(27, 8))
    assert skew_bound([normal[0]]) == skew_bound([np.ones(8)]) == skew_bound([]) == 2.0
    assert skew_bound(list(normal)) < 1.0 < skew_bound(list(skewed))
    assert skew_bound([*normal[:14], *-skewed[:14]]) > 1.0  # either sign
    for n in (6, 12):
        for alpha in (0.05, 0.0005):
            assert t_p_value(critical_t(alpha, n, 2.0), n, 2.0) == pytest.approx(alpha, rel=0.05)
            assert critical_t(alpha, n, 0.0) < critical_t(alpha, n, 1.0) < critical_t(alpha, n, 2.0)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_unequal_or_no_pairs_are_an_error():
    with pytest.raises(ValueError, match="paired values"):
        paired_test([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="paired values"):
        paired_test([], [])
