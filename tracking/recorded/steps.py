"""When recorded steps began and ended, and how much of each was due to the prompts in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import nnls

FEWEST = 50  # steps of which something can be told
OUTLIERS = 0.99  # of the relative times: a step that stalls says nothing of what steps cost


def spans(steps: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of each step, in seconds since the epoch: where steps overlap, one begins where the one before it ends."""
    starts, seconds = steps["t"].to_numpy(float), steps["dur"].to_numpy(float)
    begins, last = np.empty(len(steps)), -np.inf
    for place, (start, dur) in enumerate(zip(starts, seconds, strict=True)):
        begins[place] = max(start, last)
        last = begins[place] + dur
    return begins, begins + seconds


def prompt_shares(steps: pd.DataFrame) -> np.ndarray:
    """Of each step's time, the share that its prompts take, by a fit to these very steps: none is negative, and what a step
    without prompts and requests costs is nobody's. Zero where there are too few steps to tell."""
    durations = steps["dur"].to_numpy(float)
    prompts = steps[["prefill_tokens", "prefill_context"]].to_numpy(float)
    launched = (steps["prefill_reqs"].to_numpy() > 0).astype(float)
    others = steps[["decode_reqs", "context_tokens"]].to_numpy(float, copy=True)
    others[:, 1] -= prompts[:, 1]
    squared = prompts[:, :1] ** 2 / 2  # a prompt's tokens see those before them
    table = np.column_stack([np.ones(len(steps)), others, launched, prompts, squared])
    usable = durations > 0
    if usable.sum() < FEWEST or not launched.any():
        return np.zeros(len(steps))
    kept = usable & (durations <= np.quantile(durations[usable], OUTLIERS))
    scale = table[kept].max(axis=0)
    scale[scale == 0] = 1.0
    weights = 1 / np.sqrt(durations[kept] * np.median(durations[kept]))
    found, _ = nnls(table[kept] / scale * weights[:, None], durations[kept] * weights)
    costs = table / scale * found
    whole = costs.sum(axis=1)
    return np.divide(costs[:, 3:].sum(axis=1), whole, out=np.zeros(len(steps)), where=whole > 0)


def slowed(decodes: list[list[list[float]]], steps: pd.DataFrame) -> np.ndarray:
    """Seconds that each request's spans of decoding were longer for the prompts that were computed in the same steps."""
    if steps.empty:
        return np.zeros(len(decodes))
    begins, ends = spans(steps)
    times = np.column_stack([begins, ends]).ravel()
    sums = np.concatenate([[0.0], np.cumsum(prompt_shares(steps) * (ends - begins))])
    values = np.column_stack([sums[:-1], sums[1:]]).ravel()
    return np.array(
        [
            sum(np.interp(end, times, values) - np.interp(start, times, values) for start, end in some)
            for some in decodes
        ]
    )
