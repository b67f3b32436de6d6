"""What metrics and figures measure with: the measured requests of a run, percentiles and means."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracking.result import RunResult

MIN_TAIL = 10  # observations a p99 must have beyond it
BATCHES, MIN_BATCH = 20, 4  # of requests in order of arrival, and the fewest in one
LARGEST_SHARE = 0.05  # of the requests: "the largest"
LATE_S = 0.05  # a tenth of the strictest TTFT limit in use (MLPerf's interactive 8B: 500 ms)
READ_SHARE = 0.05
STRETCHES, TRENDS = (
    5,
    10,
)  # one fifth of the arrivals fills the engine; the rest is looked at in ten stretches
RISES, GROWS = 0.6, 0.04  # tau of a queue that grows, and by how much at least: a share of what arrives
NOT_NUMBERS = frozenset({"request_id", "kind", "status", "error", "warmup", "itl_s", "session"})


def measured_requests(result: RunResult) -> pd.DataFrame:
    """The requests outside the warm-up, with numeric columns and `ttft`, `tpot`, `e2e` in seconds.

    The three are inf where the request did not get there; `tpot` is NaN for one-token outputs.
    """
    table = result.requests
    table = table[~table["warmup"].astype(bool)].copy()
    for name in table.columns.difference(list(NOT_NUMBERS)):
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = pd.to_numeric(table[name], errors="coerce")
    ok = table["status"] == "ok"
    table["ttft"] = (table["first_token_t"] - table["scheduled_t"]).fillna(np.inf)
    table["e2e"] = (table["finish_t"] - table["scheduled_t"]).where(ok, np.inf)
    decode = (table["finish_t"] - table["first_token_t"]) / (table["output_tokens"] - 1)
    table["tpot"] = decode.where(table["output_tokens"] > 1).where(ok, np.inf)
    return table


def percentile(values: np.ndarray, q: float, min_tail: int = MIN_TAIL) -> float:
    """Interpolated percentile; inf if it falls on an inf, NaN if empty or for a p99 with a short tail."""
    values = np.sort(values)
    if not len(values) or (q >= 0.99 and len(values) * (1 - q) < min_tail - 1e-9):
        return np.nan
    finite = int(np.isfinite(values).sum())
    if int(np.ceil(q * (len(values) - 1))) >= finite:
        return np.inf
    return float(np.quantile(np.where(np.isfinite(values), values, values[finite - 1]), q))


def average(values: np.ndarray) -> float:
    """Mean of the values that are there; NaN of none."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def batch_half_width(values: np.ndarray, batches: int = BATCHES) -> float:
    """Half-width of the 95 % interval of the mean of a series, as a share of the mean; NaN if it is too short.

    Neighbours in a queue wait alike, so they are no independent observations, but the means of long
    stretches nearly are (the method of batch means). A queue that grows all the time has no narrow one.
    """
    values = np.asarray(values, float)
    if len(values) < MIN_BATCH * batches or not values.sum() > 0:
        return np.nan
    from scipy.special import stdtrit  # what only computes metrics needs no scipy

    means = np.array([part.mean() for part in np.array_split(values, batches)])
    t = stdtrit(batches - 1, 0.975)
    return float(t * means.std(ddof=1) / np.sqrt(batches) / values.mean())


def are_largest(tokens: np.ndarray, share: float = LARGEST_SHARE) -> np.ndarray:
    """Which requests are the largest by their tokens, `share` of them and at least one; none if nobody knows."""
    if not len(tokens) or not np.isfinite(tokens).all():
        return np.zeros(len(tokens), bool)
    chosen = np.zeros(len(tokens), bool)
    chosen[np.argsort(-tokens, kind="stable")[: max(1, round(share * len(tokens)))]] = True
    return chosen


def p99_half_width(values: np.ndarray, batches: int = BATCHES) -> float:
    """Half-width of the 95 % interval of the p99 of a series, as a share of it; NaN without a p99 or its ends.

    How often the p99 is exceeded varies from stretch to stretch (batch means, as above); the quantiles of the
    two ends of that share are the ends of the interval.
    """
    values = np.asarray(values, float)
    middle = percentile(values, 0.99)
    if not np.isfinite(middle) or not middle > 0 or len(values) < MIN_BATCH * batches:
        return np.nan
    from scipy.special import stdtrit  # what only computes metrics needs no scipy

    shares = np.array([(part > middle).mean() for part in np.array_split(values, batches)])
    half = float(stdtrit(batches - 1, 0.975) * shares.std(ddof=1) / np.sqrt(batches))
    low, high = (percentile(values, min(1.0, max(0.0, 0.99 + by)), min_tail=0) for by in (-half, half))
    return (high - low) / 2 / middle if np.isfinite(high) else np.nan


def largest(values: np.ndarray) -> float:
    return float(np.max(values)) if len(values) else np.nan


def share_of(part: float, whole: float) -> float:
    """part / whole; NaN of nothing."""
    return float(part / whole) if whole else np.nan


def jain_index(values: np.ndarray) -> float:
    """(sum x)^2 / (n sum x^2), in [1/n, 1]; NaN of none."""
    if not len(values):
        return np.nan
    return float(values.sum() ** 2 / (len(values) * (values**2).sum()))


def kv_blocks(result: RunResult) -> int | None:
    """KV blocks of the engine, from the run_start event or its environment; None if neither says."""
    return _of_engine(result, "num_blocks")


def kv_tokens(result: RunResult) -> int | None:
    """Tokens of the engine's KV cache; None if nobody says."""
    blocks, size = kv_blocks(result), _of_engine(result, "block_size")
    return blocks * size if blocks and size else None


def _of_engine(result: RunResult, fact: str) -> int | None:
    return result.run_start.get(fact, result.environment.get(fact))


def is_late(send_lag: np.ndarray) -> bool:
    """Whether the client was late: with more than one request in a hundred by over `LATE_S`. Seconds a request."""
    return _but_one_in_a_hundred(send_lag) > LATE_S


def reads_late(read_lag: np.ndarray, e2e: np.ndarray) -> bool:
    """Whether the client read answers so late that it made the latencies: by over `LATE_S` and `READ_SHARE` of E2E, in the
    mean or with more than one request in a hundred (beside the E2E that as many exceed). Seconds a request; `e2e` of those
    that finished counts."""
    e2e = e2e[np.isfinite(e2e)]
    return any(of(read_lag) > max(LATE_S, READ_SHARE * of(e2e)) for of in (average, _but_one_in_a_hundred))


def _but_one_in_a_hundred(values: np.ndarray) -> float:
    """What more than one value in a hundred reaches; NaN of none."""
    return float(np.quantile(values, 0.99, method="lower")) if len(values) else np.nan


def is_saturated(requests: pd.DataFrame) -> bool:
    """Of `measured_requests`: whether a request was not served, or more and more were in the engine.

    A trend test over the last four fifths of the arrivals, in stretches: how many requests had arrived and not
    finished must rise from stretch to stretch (Kendall's tau), and by so many of those that arrive that the
    rest is not the beginning of a run. What is served within a rate goes up and down, however long the run.
    """
    if not len(requests):
        return False
    if requests["status"].isin(["timeout", "unsent"]).any():
        return True
    arrivals = np.sort(requests["scheduled_t"].to_numpy(float))
    finished = np.sort(requests["finish_t"].fillna(np.inf).to_numpy(float))
    inside = np.arange(1, len(arrivals) + 1) - np.searchsorted(finished, arrivals, side="right")
    inside = inside[len(inside) // STRETCHES :]
    if len(inside) < MIN_BATCH * TRENDS:
        return False
    means = np.array([part.mean() for part in np.array_split(inside, TRENDS)])
    first, second = np.triu_indices(TRENDS, 1)
    tau = float(np.sign(means[second] - means[first]).mean())
    growth = float(np.polyfit(np.arange(TRENDS), means, 1)[0]) * TRENDS / len(inside)
    return tau >= RISES and growth >= GROWS
