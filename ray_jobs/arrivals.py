"""When requests arrive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ray_jobs.streams import stream
from ray_jobs.workload_config import ArrivalConfig


def arrival_times(
    config: ArrivalConfig, rate: float, count: int, seed: int, recorded_s: Sequence[float] | None = None
) -> np.ndarray:
    """`count` arrivals in seconds, rising, the first at 0. In a closed loop all are 0: users decide.

    Another rate stretches the same arrivals. `recorded_s` are the source's own times, for replay.
    """
    if config.kind == "closed_loop":
        return np.zeros(count)
    if config.kind == "replay":
        times = np.asarray(recorded_s, dtype=float)
        return (times - times[0]) * config.time_scale
    times = np.cumsum(_unit_gaps(config, count, seed))
    return (times - times[0]) / rate


def _unit_gaps(config: ArrivalConfig, count: int, seed: int) -> np.ndarray:
    """Gaps between arrivals with mean 1."""
    random = stream(seed, "arrivals")
    if config.kind == "poisson":
        return random.standard_exponential(count)
    if config.kind == "gamma":
        return random.standard_gamma(config.burstiness, count) / config.burstiness
    return np.ones(count)
