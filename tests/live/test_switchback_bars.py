"""The bars of `bidkv-switchback`, in short: `scripts/switchback_bars.py` has them in full, 200 days each."""

from __future__ import annotations

import numpy as np

from ray_jobs.live.guard import Span
from ray_jobs.live.plan import plan_blocks
from scripts.switchback_bars import pairs_of, traffic
from tracking.evidence.statistics import verdict
from tracking.evidence.switchback import switchback_test


def words_of_days(days: int, effect: float, first: int) -> tuple[list[str], list[float]]:
    """The verdict of each simulated day, and how alike its neighbouring blocks were."""
    words, alike = [], []
    for seed in range(first, first + days):
        random = np.random.default_rng([26, seed])
        blocks = plan_blocks(144, 300.0, int(random.integers(2**31)))
        day = traffic(random, blocks, effect)
        spans = [Span(block.strategy, block.begin + 60.0, block.end) for block in blocks]
        means = {span: day.values(span.begin, span.end)["e2e_mean_s"] for span in spans}
        logs = np.log(list(means.values()))
        alike.append(float(np.corrcoef(logs[:-1], logs[1:])[0, 1]))
        values = [[means[span] for span in pair] for pair in pairs_of(spans)]
        test = switchback_test(*zip(*values, strict=True), matters=0.005)
        words.append(verdict(test, test.p_value, "lower"))
    return words, alike


def test_days_on_which_nothing_differs_are_rarely_called_though_their_blocks_are_alike() -> None:
    words, alike = words_of_days(20, 0.0, first=1000)
    assert np.mean(alike) > 0.5
    assert sum(word in ("better", "worse") for word in words) <= 3  # of 20 at 5 %: four or more once in sixty


def test_eight_percent_is_found_on_most_days() -> None:
    words, _ = words_of_days(15, 0.08, first=2000)
    assert words.count("better") >= 11 and "worse" not in words
