"""When recorded steps began and ended, and how much of each was due to the prompts in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import nnls

FEWEST = 50  # steps of which something can be told
MOST, SEED = 200_000, 0  # that are fitted, drawn: more tell nothing new
AT_ONCE = 500_000  # whose shares are worked out together
OTHERS = 3  # terms of a step's time that are not its prompts'
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
    usable = np.flatnonzero(durations > 0)
    if len(usable) < FEWEST or not (steps["prefill_reqs"] > 0).any():
        return np.zeros(len(steps))
    drawn = np.random.default_rng(SEED).permutation(len(usable))[:MOST]
    sample = usable[np.sort(drawn)]
    kept = sample[durations[sample] <= np.quantile(durations[sample], OUTLIERS)]
    table = _terms(steps.iloc[kept])
    scale = table.max(axis=0)
    scale[scale == 0] = 1.0
    weights = 1 / np.sqrt(durations[kept] * np.median(durations[kept]))
    found, _ = nnls(table / scale * weights[:, None], durations[kept] * weights)
    shares = np.zeros(len(steps))
    for start in range(0, len(steps), AT_ONCE):
        costs = _terms(steps.iloc[start : start + AT_ONCE]) / scale * found
        whole, part = costs.sum(axis=1), shares[start : start + AT_ONCE]
        np.divide(costs[:, OTHERS:].sum(axis=1), whole, out=part, where=whole > 0)
    return shares


def _terms(steps: pd.DataFrame) -> np.ndarray:
    """What a step's time may grow with, a row a step: itself, those that decode and what lies before them; then prompts."""
    prompts = steps[["prefill_tokens", "prefill_context"]].to_numpy(float)
    launched = (steps["prefill_reqs"].to_numpy() > 0).astype(float)
    others = steps[["decode_reqs", "context_tokens"]].to_numpy(float, copy=True)
    others[:, 1] -= prompts[:, 1]
    squared = prompts[:, :1] ** 2 / 2  # a prompt's tokens see those before them
    return np.column_stack([np.ones(len(steps)), others, launched, prompts, squared])


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
