"""Latencies as the client sees them.

Percentiles count a request that failed as longer than any that did not, and are inf where they fall on
one. The means differ in what they make of failures: `*_mean_s` takes what such a request had waited when
the run ended, a bound that grows with the length of the run; `*_completed_mean_s` leaves it out, so that
a strategy gains by failing; `*_rmst_s`, the restricted mean, counts every request up to the request
timeout and a failed one as that, so that neither happens. Verdicts are given on the last.
"""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import CLIENT, metric
from tracking.metrics.samples import average, batch_half_width, p99_half_width, percentile
from tracking.metrics.view import RunView


@metric("s", "lower", CLIENT, "TTFT mean")
def ttft_mean_s(run: RunView) -> float:
    """mean of scheduled arrival to first token"""
    return average(run.bounded(run.ttft))


@metric("s", "lower", CLIENT, "TTFT mean, completed")
def ttft_completed_mean_s(run: RunView) -> float:
    """mean of scheduled arrival to first token, of the requests that got one"""
    return average(run.ttft[np.isfinite(run.ttft)])


@metric("s", "lower", CLIENT, "TTFT restricted mean")
def ttft_rmst_s(run: RunView) -> float:
    """mean of scheduled arrival to first token, each request up to the request timeout and failed ones as
    that"""
    return average(run.restricted(run.ttft))


@metric("s", "lower", CLIENT, "TTFT p50")
def ttft_p50_s(run: RunView) -> float:
    """p50 of scheduled arrival to first token"""
    return percentile(run.ttft, 0.50)


@metric("s", "lower", CLIENT, "TTFT p90")
def ttft_p90_s(run: RunView) -> float:
    """p90 of scheduled arrival to first token"""
    return percentile(run.ttft, 0.90)


@metric("s", "lower", CLIENT, "TTFT p99")
def ttft_p99_s(run: RunView) -> float:
    """p99 of scheduled arrival to first token"""
    return percentile(run.ttft, 0.99)


@metric("s", "lower", CLIENT, "TPOT mean")
def tpot_mean_s(run: RunView) -> float:
    """mean of first to last token, per output token after the first"""
    return average(run.bounded(run.tpot, per=run.outputs))


@metric("s", "lower", CLIENT, "TPOT p50")
def tpot_p50_s(run: RunView) -> float:
    """p50 of first to last token, per output token after the first"""
    return percentile(run.tpot[~np.isnan(run.tpot)], 0.50)


@metric("s", "lower", CLIENT, "TPOT p90")
def tpot_p90_s(run: RunView) -> float:
    """p90 of first to last token, per output token after the first"""
    return percentile(run.tpot[~np.isnan(run.tpot)], 0.90)


@metric("s", "lower", CLIENT, "TPOT p99")
def tpot_p99_s(run: RunView) -> float:
    """p99 of first to last token, per output token after the first"""
    return percentile(run.tpot[~np.isnan(run.tpot)], 0.99)


@metric("s", "lower", CLIENT, "ITL mean")
def itl_mean_s(run: RunView) -> float:
    """mean of gap between two output chunks of a request"""
    return average(run.gaps)


@metric("s", "lower", CLIENT, "ITL p50")
def itl_p50_s(run: RunView) -> float:
    """p50 of gap between two output chunks of a request"""
    return percentile(run.gaps, 0.50)


@metric("s", "lower", CLIENT, "ITL p90")
def itl_p90_s(run: RunView) -> float:
    """p90 of gap between two output chunks of a request"""
    return percentile(run.gaps, 0.90)


@metric("s", "lower", CLIENT, "ITL p99")
def itl_p99_s(run: RunView) -> float:
    """p99 of gap between two output chunks of a request"""
    return percentile(run.gaps, 0.99)


@metric("s", "lower", CLIENT, "E2E mean")
def e2e_mean_s(run: RunView) -> float:
    """mean of scheduled arrival to last token"""
    return average(run.bounded(run.e2e))


@metric("share", "none", CLIENT, "E2E mean, half-width")
def e2e_mean_half_width(run: RunView) -> float:
    """half-width of the 95 % interval of the E2E mean within this run, as a share of it (20 batch means)"""
    return batch_half_width(run.bounded(run.e2e)[np.argsort(run.column("scheduled_t"), kind="stable")])


@metric("share", "none", CLIENT, "E2E p99, half-width")
def e2e_p99_half_width(run: RunView) -> float:
    """half-width of the 95 % interval of the E2E p99 within this run, as a share of it (20 stretches)"""
    return p99_half_width(run.bounded(run.e2e)[np.argsort(run.column("scheduled_t"), kind="stable")])


@metric("s", "lower", CLIENT, "E2E mean, completed")
def e2e_completed_mean_s(run: RunView) -> float:
    """mean of scheduled arrival to last token, of the requests that completed"""
    return average(run.e2e[np.isfinite(run.e2e)])


@metric("s", "lower", CLIENT, "E2E restricted mean")
def e2e_rmst_s(run: RunView) -> float:
    """mean of scheduled arrival to last token, each request up to the request timeout and failed ones as
    that"""
    return average(run.restricted(run.e2e))


@metric("s", "lower", CLIENT, "E2E p50")
def e2e_p50_s(run: RunView) -> float:
    """p50 of scheduled arrival to last token"""
    return percentile(run.e2e, 0.50)


@metric("s", "lower", CLIENT, "E2E p90")
def e2e_p90_s(run: RunView) -> float:
    """p90 of scheduled arrival to last token"""
    return percentile(run.e2e, 0.90)


@metric("s", "lower", CLIENT, "E2E p99")
def e2e_p99_s(run: RunView) -> float:
    """p99 of scheduled arrival to last token"""
    return percentile(run.e2e, 0.99)


@metric("s/token", "lower", CLIENT, "E2E per output token")
def norm_latency_mean(run: RunView) -> float:
    """mean of E2E per output token"""
    return average(run.bounded(run.e2e) / run.outputs)
