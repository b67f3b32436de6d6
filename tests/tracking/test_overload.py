"""Overload is seen by what the queue does over time, however long the run; and what the largest requests are."""

from __future__ import annotations

import heapq

import numpy as np
import pandas as pd
import pytest

from tracking.metrics.samples import are_largest, is_saturated


def queue(load: float, requests: int, seed: int, seats: int = 32) -> pd.DataFrame:
    """What arrives at `load` times what `seats` servers take, first come first served."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / (load * seats), requests))
    free, first, finish = [0.0] * seats, [], []
    for at, takes in zip(arrivals, rng.lognormal(-0.32, 0.8, requests), strict=True):
        first.append(max(at, heapq.heappop(free)))
        finish.append(first[-1] + takes)
        heapq.heappush(free, finish[-1])
    return pd.DataFrame({"status": "ok", "scheduled_t": arrivals, "first_token_t": first, "finish_t": finish})


@pytest.mark.parametrize(
    ("load", "requests", "low", "high"),
    [
        (0.8, 500, 0, 1), (0.8, 5000, 0, 0), (0.95, 2000, 0, 2), (0.95, 5000, 0, 0), (1.1, 2000, 8, 10),
        (1.1, 5000, 9, 10), (1.2, 500, 8, 10), (1.2, 2000, 9, 10), (1.2, 5000, 10, 10),
    ],
)  # fmt: skip
def test_a_growing_queue_is_seen_in_long_runs_as_well(load, requests, low, high):
    flagged = sum(is_saturated(queue(load, requests, seed)) for seed in range(10))
    assert low <= flagged <= high


def test_a_request_that_was_not_served_is_overload():
    table = queue(0.5, 100, 0)
    assert not is_saturated(table)
    table.loc[3, "status"] = "timeout"
    assert is_saturated(table) and not is_saturated(table[:0])


def test_the_largest_are_a_twentieth_and_nobody_if_sizes_are_not_known():
    assert list(np.flatnonzero(are_largest(np.array([5.0, 9.0, 1.0] * 20)))) == [1, 4, 7]
    assert list(are_largest(np.array([5.0, 9.0]))) == [False, True]
    assert not are_largest(np.array([5.0, np.nan])).any() and not len(are_largest(np.array([])))
