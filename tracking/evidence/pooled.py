"""The p99 over the requests of several runs, where each is too short for a p99 of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to import

from tracking.evidence.outcomes import ENOUGH, Block
from tracking.evidence.statistics import ALPHA, Interval
from tracking.metrics.samples import percentile
from tracking.store.reader import StoredRun

COLUMNS = {"ttft_p99_s": "ttft", "tpot_p99_s": "tpot", "e2e_p99_s": "e2e"}


def run_values(runs: Sequence[StoredRun], column: str) -> np.ndarray:
    """The latencies of all requests of the runs that did not fail; inf where a request did not finish."""
    values = [run.latencies[column].dropna().to_numpy(float) for run in runs if not run.failed]
    return np.concatenate(values or [np.array([])])


def p99(values: Sequence[np.ndarray]) -> float:
    """Of all blocks together, without a shortest tail; inf if it falls on a request that did not finish."""
    together = np.concatenate(values)
    value = percentile(together, 0.99, min_tail=1)
    return np.inf if np.isnan(value) and np.isinf(together).any() else value


def pooled_p99(blocks: Sequence[np.ndarray]) -> Interval:
    """The p99 of all blocks with a 95 % interval that leaves out one block at a time."""
    return exp(jackknife(blocks, lambda rest: float(np.log(p99(rest)))))


def pooled_values(blocks: Sequence[Block], strategy: str, metric: str) -> list[np.ndarray]:
    """A strategy's latencies in each of the blocks; a failed run has as many as the block's others, all inf."""
    return [_block_values(block, strategy, COLUMNS[metric]) for block in blocks if block.get(strategy)]


def _block_values(block: Block, strategy: str, column: str) -> np.ndarray:
    values = run_values(block[strategy], column)
    failed = sum(run.failed for run in block[strategy])
    if not failed:
        return values
    mates = [run for runs in block.values() for run in runs if not run.failed]
    each = mean(run.metrics.get("requests", 1.0) for run in mates) if mates else 1.0
    return np.concatenate([values, np.full(round(each * failed), np.inf)])


def pooled_ratio(blocks: Sequence[tuple[np.ndarray, np.ndarray]]) -> Interval:
    """p99 of the strategy / p99 of the baseline; NaN if both fall on requests that did not finish."""

    def log_ratio(rest: Sequence) -> float:
        base, other = (p99(some) for some in zip(*rest, strict=True))
        with np.errstate(invalid="ignore"):
            return float(np.log(other) - np.log(base))

    return exp(jackknife(blocks, log_ratio))


def jackknife(blocks: Sequence, statistic: Callable[[Sequence], float]) -> Interval:
    """`statistic` of all blocks; its interval from leaving out one at a time (Student's t).

    Blocks, not requests, since the requests of a run are not independent. An infinite value reaches
    down to the lowest that is left when a block is taken out.
    """
    value, n = statistic(blocks), len(blocks)
    left_out = [statistic([*blocks[:i], *blocks[i + 1 :]]) for i in range(n)] if n > 1 else [np.nan]
    if np.isinf(value) and not np.isnan(left_out).any():
        return Interval(value, min(left_out), max(left_out))
    if not np.isfinite([value, *left_out]).all():
        return Interval(value, np.nan, np.nan)
    half = stdtrit(n - 1, 1 - ALPHA / 2) * np.sqrt((n - 1) * np.var(left_out))
    return Interval(value, value - half, value + half)


def exp(logs: Interval) -> Interval:
    return Interval(*(float(np.exp(x)) for x in (logs.value, logs.low, logs.high)))


def strategy_p99(blocks: Sequence[Block], strategy: str, metric: str) -> Interval | None:
    """The p99 over all requests of a strategy's runs; None if they are too few for one."""
    values = pooled_values(blocks, strategy, metric)
    return pooled_p99(values) if sum(map(len, values)) >= ENOUGH else None
