"""How large the KV cache is for these requests, and how near their rate is to capacity.

On these scales pools of different models and devices compare. The same for every strategy of a trace.
"""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import CLIENT, ENGINE, metric
from tracking.metrics.samples import kv_tokens
from tracking.metrics.view import RunView


@metric("requests", "none", ENGINE, "mean requests that fit")
def pool_fits(run: RunView) -> float:
    """tokens of KV cache by the mean of prompt and output tokens of a request"""
    tokens = kv_tokens(run.result)
    return np.nan if tokens is None or not len(run.requests) else tokens / _footprints(run).mean()


@metric("requests", "none", ENGINE, "largest requests that fit")
def pool_fits_largest(run: RunView) -> float:
    """tokens of KV cache by the prompt and output tokens of the largest request"""
    tokens = kv_tokens(run.result)
    return np.nan if tokens is None or not len(run.requests) else tokens / _footprints(run).max()


@metric("sessions", "none", ENGINE, "live sessions that fit")
def pool_fits_sessions(run: RunView) -> float:
    """tokens of KV cache by the footprint of a live session: prompt and output tokens of its largest turn, in the mean"""
    tokens = kv_tokens(run.result)
    if tokens is None or not len(run.sessions):
        return np.nan
    largest = run.requests.assign(tokens=_footprints(run)).groupby("session")["tokens"].max()
    return tokens / largest[run.sessions.index].mean()


@metric("share", "none", CLIENT, "load of capacity")
def load_of_capacity(run: RunView) -> float:
    """requests offered a second by the capacity of the engine; absent where it was not looked for (`workload.load=95%` does)"""
    return np.nan if run.load is None else run.load


def _footprints(run: RunView) -> np.ndarray:
    """Tokens that each request holds at its end."""
    return run.column("prompt_tokens") + run.column("true_output_tokens")
