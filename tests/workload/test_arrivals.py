from __future__ import annotations

import numpy as np
import pytest
from helpers_workload import freeze, mixture
from scipy import stats

from ray_jobs.workload.arrivals import arrival_times
from ray_jobs.workload.config import ArrivalConfig

COUNT = 20_000


def gaps(kind: str, rate: float = 5.0, seed: int = 1, **settings) -> np.ndarray:
    times = arrival_times(ArrivalConfig(kind=kind, **settings), rate, COUNT, seed)
    assert times[0] == 0 and len(times) == COUNT
    return np.diff(times)


@pytest.mark.parametrize(
    ("kind", "burstiness", "cv"),
    [("poisson", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5), ("gamma", 1.0, 1.0)],
)
def test_gaps_have_the_stated_rate_and_spread(kind: str, burstiness: float, cv: float) -> None:
    own = gaps(kind, burstiness=burstiness)
    assert own.min() >= 0
    # Bounds of five standard errors; the mean's is cv / sqrt(n).
    assert own.mean() == pytest.approx(0.2, rel=5 * cv / COUNT**0.5)
    assert own.std() / own.mean() == pytest.approx(cv, rel=0.06)


def test_poisson_gaps_are_exponential_and_independent() -> None:
    own = gaps("poisson")
    assert stats.kstest(own, "expon", args=(0, 0.2)).pvalue > 1e-3
    assert abs(np.corrcoef(own[:-1], own[1:])[0, 1]) < 5 / COUNT**0.5
    assert stats.kstest(gaps("gamma", burstiness=0.5), "expon", args=(0, 0.2)).pvalue < 1e-6


def test_constant_gaps_are_equal() -> None:
    assert gaps("constant", rate=8.0) == pytest.approx(np.full(COUNT - 1, 0.125))


def test_burstiness_means_nothing_to_poisson() -> None:
    assert np.array_equal(gaps("poisson", burstiness=9.0), gaps("poisson"))


def test_the_rate_only_stretches() -> None:
    assert gaps("poisson", rate=2.0) == pytest.approx(gaps("poisson", rate=1.0) / 2)


def test_seeds_differ_and_repeat() -> None:
    assert np.array_equal(gaps("gamma", burstiness=0.5), gaps("gamma", burstiness=0.5))
    assert not np.array_equal(gaps("poisson", seed=1), gaps("poisson", seed=2))
    assert abs(np.corrcoef(gaps("poisson", seed=1), gaps("poisson", seed=2))[0, 1]) < 5 / COUNT**0.5


def test_replay_scales_recorded_times() -> None:
    config = ArrivalConfig(kind="replay", time_scale=0.5)
    assert list(arrival_times(config, 0.0, 3, 0, [100.0, 101.0, 105.0])) == [0.0, 0.5, 2.5]


def test_a_closed_loop_carries_its_users_and_no_rate() -> None:
    workload = mixture(rate=None, arrivals=ArrivalConfig(kind="closed_loop", users=7, think_time_s=0.5))
    assert workload.rate == 0.0
    trace = freeze(workload)
    assert (trace.closed_loop_users, trace.think_time_s) == (7, 0.5)
    assert {r.arrival_s for r in trace.requests} == {0.0}
    assert freeze(mixture()).closed_loop_users is None
