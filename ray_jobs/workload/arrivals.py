"""When requests arrive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ray_jobs.workload.config import ArrivalConfig
from ray_jobs.workload.streams import stream
from tracking.errors import require


def arrival_times(
    config: ArrivalConfig, rate: float, count: int, seed: int, recorded_s: Sequence[float] | None = None
) -> np.ndarray:
    """`count` arrivals in seconds, rising, the first at 0. In a closed loop all are 0: users decide.

    Of sessions these are their beginnings.

    Another rate stretches the same arrivals. `recorded_s` are the source's own times, for replay, which
    follows a rate only where the load is a share of the capacity.
    """
    if config.kind == "closed_loop":
        return np.zeros(count)
    if config.kind == "replay":
        times = np.asarray(recorded_s, dtype=float)
        return (times - times[0]) * replay_scale(times, config, rate)
    times = np.cumsum(_unit_gaps(config, count, seed))
    return (times - times[0]) / rate


def replay_scale(recorded_s: Sequence[float], config: ArrivalConfig, rate: float) -> float:
    """What recorded times are multiplied with: `time_scale`, or what makes `rate` their mean rate."""
    if not rate:
        return config.time_scale
    span = recorded_s[-1] - recorded_s[0]
    require(
        span > 0, "workload.load", f"{rate:g} req/s",
        "a name: the recorded arrivals are all at one time, so that they cannot follow a rate",
    )  # fmt: skip
    return (len(recorded_s) - 1) / (rate * span)


def _unit_gaps(config: ArrivalConfig, count: int, seed: int) -> np.ndarray:
    """Gaps between arrivals with mean 1."""
    random = stream(seed, "arrivals")
    if config.kind in ("poisson", "sessions"):
        return random.standard_exponential(count)
    if config.kind == "gamma":
        return random.standard_gamma(config.burstiness, count) / config.burstiness
    return np.ones(count)
