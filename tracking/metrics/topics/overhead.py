"""What the policy and the adapter themselves take."""

from __future__ import annotations

from tracking.metrics.metric import EVENTS, metric
from tracking.metrics.samples import average, percentile
from tracking.metrics.view import RunView


@metric("us", "lower", EVENTS, "selector")
def select_us_mean(run: RunView) -> float:
    """mean time of the policy per decision"""
    return average(run.select_us)


@metric("us", "lower", EVENTS, "selector p50")
def select_us_p50(run: RunView) -> float:
    """median time of the policy per decision"""
    return percentile(run.select_us, 0.50)


@metric("us", "lower", EVENTS, "selector p99")
def select_us_p99(run: RunView) -> float:
    """p99 time of the policy per decision"""
    return percentile(run.select_us, 0.99)


@metric("us", "lower", EVENTS, "hook")
def hook_us_mean(run: RunView) -> float:
    """mean time of all the adapter adds per preemption"""
    return average(run.hook_us)


@metric("errors", "lower", EVENTS)
def strategy_errors(run: RunView) -> float:
    """decisions left to the engine because the policy failed"""
    return sum(event["source"] == "engine" for event in run.all_preemptions)
