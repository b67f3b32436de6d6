"""What the engine's steps show: memory, and the queue that waits for it."""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import STEPS, metric
from tracking.metrics.samples import average, largest
from tracking.metrics.view import RunView


@metric("s", "lower", STEPS, "head of the queue blocked")
def hol_blocked_s(run: RunView) -> float:
    """time with free seats while the head of the queue did not fit"""
    if not len(run.result.steps) or not len(run.requests):
        return np.nan
    return run.steps.loc[run.steps["hol_blocked"].astype(bool), "dur"].sum()


@metric("share", "none", STEPS, "KV in use, mean")
def kv_util_mean(run: RunView) -> float:
    """mean over time of KV blocks held by running requests"""
    return np.average(run.kv_share, weights=run.steps["dur"]) if len(run.kv_share) else np.nan


@metric("share", "none", STEPS, "KV in use, max")
def kv_util_max(run: RunView) -> float:
    """largest share of KV blocks held by running requests"""
    return largest(run.kv_share)


@metric("us", "lower", STEPS, "schedule()")
def schedule_us_mean(run: RunView) -> float:
    """mean time of the engine's schedule(); modelled where steps are simulated, with the outputs' processing"""
    return average(run.steps["schedule_us"] if "schedule_us" in run.steps else ())


@metric("share", "lower", STEPS, "waited for scheduling")
def schedule_delay_share(run: RunView) -> float:
    """share of the steps' time in which a simulated device waited for what the strategy looked at"""
    if "schedule_delay_s" not in run.steps or not len(run.steps):
        return np.nan
    return run.steps["schedule_delay_s"].sum() / run.steps["dur"].sum()


def _largest_of(run: RunView, column: str) -> float:
    return largest(run.steps[column].to_numpy(float)) if column in run.steps else np.nan


@metric("requests", "none", STEPS, "largest step: decodes")
def step_decode_reqs_max(run: RunView) -> float:
    """most requests that decoded in one step"""
    return _largest_of(run, "decode_reqs")


@metric("tokens", "none", STEPS, "largest step: context")
def step_context_tokens_max(run: RunView) -> float:
    """most tokens of context that one step read"""
    return _largest_of(run, "context_tokens")


@metric("tokens", "none", STEPS, "largest step: prefill")
def step_prefill_tokens_max(run: RunView) -> float:
    """most prompt tokens that one step computed"""
    return _largest_of(run, "prefill_tokens")


@metric("tokens", "none", STEPS, "largest step: context of prefills")
def step_prefill_context_max(run: RunView) -> float:
    """most tokens that prefills of one step attended to beside their own"""
    return _largest_of(run, "prefill_context")
