"""How much was served, and how much of it in time."""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import CLIENT, metric
from tracking.metrics.samples import average, largest, percentile, share_of
from tracking.metrics.view import RunView


def _within(run: RunView) -> np.ndarray:
    """Which requests met both limits."""
    in_time = (run.ttft <= run.slo.ttft_s) & (np.nan_to_num(run.tpot, nan=0.0) <= run.slo.tpot_s)
    return run.ok & in_time


@metric("requests", "none", CLIENT)
def requests(run: RunView) -> float:
    """requests outside the warm-up"""
    return len(run.requests)


@metric("s", "none", CLIENT, "window")
def window_s(run: RunView) -> float:
    """first scheduled arrival to last finish; to the run's end if one is missing"""
    return run.window


@metric("share", "higher", CLIENT, "completed")
def completion_rate(run: RunView) -> float:
    """requests completed, of all"""
    return average(run.ok)


@metric("share", "lower", CLIENT, "failed")
def failed_share(run: RunView) -> float:
    """requests that failed, timed out or were never sent, of all"""
    return average(~run.ok)


@metric("requests/s", "higher", CLIENT, "requests")
def throughput_req_s(run: RunView) -> float:
    """completed requests per second of the window"""
    return share_of(run.ok.sum(), run.window)


@metric("tokens/s", "higher", CLIENT, "throughput")
def throughput_tok_s(run: RunView) -> float:
    """output tokens of completed requests per second"""
    return share_of(run.column("output_tokens")[run.ok].sum(), run.window)


@metric("share", "higher", CLIENT, "SLO met")
def slo_attainment(run: RunView) -> float:
    """requests within the TTFT and TPOT limits, of all"""
    return average(_within(run))


@metric("requests/s", "higher", CLIENT, "goodput")
def goodput_req_s(run: RunView) -> float:
    """requests within both limits per second"""
    return share_of(_within(run).sum(), run.window)


@metric("share", "lower", CLIENT, "deadlines missed")
def deadline_miss_share(run: RunView) -> float:
    """requests that finished after their deadline or never, of those that have one"""
    deadline = run.column("deadline_s")
    return average((run.e2e > deadline)[~np.isnan(deadline)])


@metric("s", "none", CLIENT, "send lag p99")
def send_lag_p99_s(run: RunView) -> float:
    """p99 of actual minus scheduled send time"""
    return percentile(run.send_lag, 0.99)


@metric("s", "none", CLIENT, "send lag max")
def send_lag_max_s(run: RunView) -> float:
    """largest such lag; large means that the client was the bottleneck"""
    return largest(run.send_lag)


@metric("s", "none", CLIENT, "read lag mean")
def read_lag_mean_s(run: RunView) -> float:
    """from the engine's end of a request to the client's; large means that answers were read too slowly"""
    return average(run.read_lag)


@metric("share", "none", CLIENT, "client CPU")
def client_cpu_share(run: RunView) -> float:
    """CPU time of the process that sent the requests, of the run's time; near 100% it was the bottleneck"""
    cpu_s = run.result.client_cpu_s
    return np.nan if cpu_s is None else share_of(cpu_s, run.result.finished_t - run.result.started_t)
