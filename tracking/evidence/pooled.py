"""The p99 of runs too short for one of their own: over all requests of a strategy, and in pairs block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to import

from tracking.evidence.outcomes import ENOUGH, Block, Pairing, fell_behind, lost, measured_fewer
from tracking.evidence.statistics import ALPHA, Interval
from tracking.metrics.samples import percentile
from tracking.store.reader import StoredRun

COLUMNS = {"ttft_p99_s": "ttft", "tpot_p99_s": "tpot", "e2e_p99_s": "e2e"}
FEWEST = 100  # requests of a block that has a p99 to pair, of ENOUGH in all


def run_values(runs: Sequence[StoredRun], column: str) -> np.ndarray:
    """The latencies of all requests of the runs that did not fail; inf where a request did not finish."""
    values = [run.latencies[column].dropna().to_numpy(float) for run in runs if not run.failed]
    return np.concatenate(values or [np.array([])])


def p99(values: Sequence[np.ndarray]) -> float:
    """Of all blocks together, without a shortest tail; inf if it falls on a request that did not finish."""
    together = np.concatenate(values)
    value = percentile(together, 0.99, min_tail=1)
    return np.inf if np.isnan(value) and np.isinf(together).any() else value


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


def p99_pairing(blocks: Mapping[str, Block], baseline: str, strategy: str, metric: str) -> Pairing | None:
    """The p99 of both in every block: the same requests under both, so that most of its noise is the same.

    None if there are fewer than `ENOUGH` requests in all, or fewer than `FEWEST` in a block.
    """
    found, counted = Pairing(), np.zeros(2)
    for seed, block in blocks.items():
        if not (block.get(baseline) and block.get(strategy)):
            found.absent.append(seed)
            continue
        values = []
        for side, name in enumerate((baseline, strategy)):
            value, requests = _block_p99(block, name, metric)
            counted[side] += requests
            if value is None:
                return None
            values.append(value)
        base, other = block[baseline], block[strategy]
        if any(measured_fewer(run, other) for run in base):
            found.no_baseline.append(seed)
            continue
        if any(fell_behind(base, run) for run in other):
            values[1] = np.inf
        if np.isinf(values[0]):
            found.no_baseline += [seed] if np.isfinite(values[1]) else []
            continue
        found.seeds.append(seed)
        found.baseline.append(values[0])
        found.strategy.append(values[1])
    return found if counted.min() >= ENOUGH else None


def _block_p99(block: Block, name: str, metric: str) -> tuple[float | None, float]:
    """A block's p99 and over how many requests it is: that of its runs if they have one, else of their tables."""
    runs = block[name]
    own = [run.metrics.get(metric, np.nan) for run in runs]
    if not any(map(lost, runs)) and np.isfinite(own).all():
        return mean(own), sum(run.metrics.get("requests", 0.0) for run in runs)
    values = _block_values(block, name, COLUMNS[metric])
    return (p99([values]) if len(values) >= FEWEST else None), len(values)


def pooled_p99(blocks: Sequence[np.ndarray]) -> Interval:
    """The p99 of all blocks with a 95 % interval that leaves out one block at a time."""
    logs = jackknife(blocks, lambda rest: float(np.log(p99(rest))))
    return Interval(*(float(np.exp(x)) for x in (logs.value, logs.low, logs.high)))


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


def strategy_p99(blocks: Sequence[Block], strategy: str, metric: str) -> Interval | None:
    """The p99 over all requests of a strategy's runs; None if they are too few for one."""
    values = pooled_values(blocks, strategy, metric)
    return pooled_p99(values) if sum(map(len, values)) >= ENOUGH else None
