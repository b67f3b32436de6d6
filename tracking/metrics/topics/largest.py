"""The largest requests: the twentieth of a run with the most prompt and output tokens.

Who pays for an order that lets small ones pass is not a class of requests but these, and a p99 over all of
them need not see it.
"""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import CLIENT, metric
from tracking.metrics.samples import are_largest, average
from tracking.metrics.view import RunView


def _of_largest(run: RunView, latency: np.ndarray) -> float:
    chosen = are_largest(run.column("prompt_tokens") + run.column("true_output_tokens"))
    limited = run.restricted(latency)
    return average(limited[chosen]) if len(limited) else np.nan


@metric("s", "lower", CLIENT, "E2E of the largest 5 %")
def e2e_largest_s(run: RunView) -> float:
    """mean of scheduled arrival to last token of the 5 % of requests with the most prompt and output tokens,
    each up to the request timeout and failed ones as that"""
    return _of_largest(run, run.e2e)


@metric("s", "lower", CLIENT, "TTFT of the largest 5 %")
def ttft_largest_s(run: RunView) -> float:
    """mean of scheduled arrival to first token of the 5 % of requests with the most prompt and output tokens,
    each up to the request timeout and failed ones as that"""
    return _of_largest(run, run.ttft)
