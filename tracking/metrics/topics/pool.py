"""How large the KV cache is for these requests: on this scale pools of different models and devices compare."""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import EVENTS, metric
from tracking.metrics.samples import kv_tokens
from tracking.metrics.view import RunView


@metric("requests", "none", EVENTS, "mean requests that fit")
def pool_fits(run: RunView) -> float:
    """tokens of KV cache by the mean of prompt and output tokens of a request"""
    tokens = kv_tokens(run.result)
    return np.nan if tokens is None or not len(run.requests) else tokens / _footprints(run).mean()


@metric("requests", "none", EVENTS, "largest requests that fit")
def pool_fits_largest(run: RunView) -> float:
    """tokens of KV cache by the prompt and output tokens of the largest request"""
    tokens = kv_tokens(run.result)
    return np.nan if tokens is None or not len(run.requests) else tokens / _footprints(run).max()


def _footprints(run: RunView) -> np.ndarray:
    """Tokens that each request holds at its end."""
    return run.column("prompt_tokens") + run.column("true_output_tokens")
