"""Who was preempted, and what it cost."""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import EVENTS, RECORDS, metric
from tracking.metrics.samples import average, largest, percentile, share_of
from tracking.metrics.view import RunView


@metric("preemptions", "lower", EVENTS)
def preemptions(run: RunView) -> float:
    """preemptions of these requests"""
    return len(run.preemptions)


@metric("preemptions", "lower", EVENTS, "most for one request")
def preemptions_max(run: RunView) -> float:
    """most preemptions of one request"""
    return largest(run.preemption_counts)


@metric("preemptions", "lower", EVENTS, "preemptions p99")
def preemptions_p99(run: RunView) -> float:
    """p99 of preemptions per request"""
    return percentile(run.preemption_counts, 0.99)


@metric("share", "lower", EVENTS, "preempted")
def preempted_share(run: RunView) -> float:
    """requests ever preempted, of all"""
    return average(run.preemption_counts > 0)


@metric("tokens", "lower", EVENTS)
def tokens_freed(run: RunView) -> float:
    """computed tokens of the victims (nominal cost)"""
    return sum(event["tokens_freed"] for event in run.preemptions)


@metric("share", "lower", EVENTS)
def nominal_tax(run: RunView) -> float:
    """tokens discarded by preemption / tokens executed"""
    return share_of(run.freed_of_recorded, run.executed)


@metric("tokens", "lower", RECORDS)
def tokens_recomputed(run: RunView) -> float:
    """executions at positions computed before (executed cost)"""
    return run.recorded["recomputed_tokens"].sum()


@metric("share", "lower", RECORDS)
def executed_tax(run: RunView) -> float:
    """tokens recomputed / tokens executed"""
    return share_of(run.recorded["recomputed_tokens"].sum(), run.executed)


@metric("share", "none", RECORDS)
def resurrection_ratio(run: RunView) -> float:
    """1 - recomputed / freed: what the prefix cache gave back"""
    return 1 - share_of(run.recorded["recomputed_tokens"].sum(), run.freed_of_recorded)


@metric("tokens", "none", RECORDS)
def tokens_restored(run: RunView) -> float:
    """tokens whose KV was loaded from host memory, not computed; absent without host memory"""
    loaded = run.column("restored_tokens") + run.column("restored_resume_tokens")
    return float(np.nansum(loaded)) if run.result.run_start.get("host_memory") else np.nan


@metric("s", "lower", RECORDS, "time preempted")
def preempted_s_mean(run: RunView) -> float:
    """mean time a request spent preempted"""
    return average(run.recorded["preempted_s"])


@metric("s", "lower", RECORDS, "resume delay mean")
def resume_delay_mean_s(run: RunView) -> float:
    """mean of preemption to being scheduled again"""
    return average(np.array(run.resume_delays))


@metric("s", "lower", RECORDS, "resume delay max")
def resume_delay_max_s(run: RunView) -> float:
    """longest such delay"""
    return largest(run.resume_delays)
