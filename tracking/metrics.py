"""Every metric of the benchmark: name, unit, direction, source and meaning; and the flags of a run.

Only requests outside the warm-up count. Latencies run from the *scheduled* arrival. A request that
failed, timed out or was never sent misses the SLO and stays in the distributions of TTFT, TPOT and
E2E: in a percentile it is longer than any measured one (the percentile is left out when it would
fall there), in a mean it is the time it had waited when the run ended, so that such a mean is a lower
bound (`completion_rate` below 1 says so). ITL has the gaps that there were. A p99 needs ten
observations beyond it, that is 1,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ray_jobs.result import RunResult
from tracking.measure import (
    is_saturated,
    latency_metrics,
    measured_requests,
    overhead_metrics,
    preemption_metrics,
    service_metrics,
    step_metrics,
)

if TYPE_CHECKING:
    from ray_jobs.config import SloConfig

LATENCIES = {
    "ttft": "scheduled arrival to first token",
    "tpot": "first to last token, per output token after the first",
    "itl": "gap between two output chunks of a request",
    "e2e": "scheduled arrival to last token",
}

# name | unit | better | doc, under the source that measured it
CATALOGUE = {
    "client clock": """
        norm_latency_mean | s/token | lower | mean of E2E per output token
        throughput_req_s | requests/s | higher | completed requests per second of the window
        throughput_tok_s | tokens/s | higher | output tokens of completed requests per second
        slo_attainment | share | higher | requests within the TTFT and TPOT limits, of all
        goodput_req_s | requests/s | higher | requests within both limits per second
        completion_rate | share | higher | requests completed, of all
        requests | requests | none | requests outside the warm-up
        window_s | s | none | first scheduled arrival to last finish; to the run's end if one is missing
        send_lag_p99_s | s | none | p99 of actual minus scheduled send time
        send_lag_max_s | s | none | largest such lag; large means that the client was the bottleneck
        slowdown_mean | ratio | lower | mean of E2E / ideal (see tracking.measure.ideal_seconds)
        jain_slowdown | index | higher | Jain's index over slowdown; 1 = all slowed equally
        """,
    "preemption events": """
        preemptions | preemptions | lower | preemptions of these requests
        preemptions_max | preemptions | lower | most preemptions of one request
        preemptions_p99 | preemptions | lower | p99 of preemptions per request
        preempted_share | share | lower | requests ever preempted, of all
        tokens_freed | tokens | lower | computed tokens of the victims (nominal cost)
        nominal_tax | share | lower | tokens discarded by preemption / tokens executed
        select_us_mean | us | lower | mean time of the policy per decision
        select_us_p50 | us | lower | median time of the policy per decision
        select_us_p99 | us | lower | p99 time of the policy per decision
        hook_us_mean | us | lower | mean time of all the adapter adds per preemption
        strategy_errors | errors | lower | decisions left to the engine because the policy failed
        """,
    "engine request records": """
        tokens_recomputed | tokens | lower | executions at positions computed before (executed cost)
        executed_tax | share | lower | tokens recomputed / tokens executed
        resurrection_ratio | share | none | 1 - recomputed / freed: what the prefix cache gave back
        preempted_s_mean | s | lower | mean time a request spent preempted
        resume_delay_mean_s | s | lower | mean of preemption to being scheduled again
        resume_delay_max_s | s | lower | longest such delay
        """,
    "engine steps": """
        hol_blocked_s | s | lower | time with free seats while the head of the queue did not fit
        kv_util_mean | share | none | mean over time of KV blocks held by running requests
        kv_util_max | share | none | largest share of KV blocks held by running requests
        """,
}


@dataclass(frozen=True)
class Metric:
    """One number of a run. `source` says who measured it, `doc` what it is."""

    name: str
    unit: str
    better: Literal["lower", "higher", "none"]
    source: str
    doc: str


def _define() -> dict[str, Metric]:
    metrics = [
        Metric(f"{short}_{stat}_s", "s", "lower", "client clock", f"{stat} of {what}")
        for short, what in LATENCIES.items()
        for stat in ("mean", "p50", "p90", "p99")
    ]
    for source, rows in CATALOGUE.items():
        for row in rows.strip().splitlines():
            name, unit, better, doc = (cell.strip() for cell in row.split("|"))
            metrics.append(Metric(name, unit, better, source, doc))
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _define()


def compute_metrics(result: RunResult, slo: SloConfig) -> dict[str, float]:
    """All metrics of `METRICS` this run has; those it cannot have (no preemption, short tail) are absent."""
    requests = measured_requests(result)
    values = {
        **latency_metrics(result, requests),
        **service_metrics(result, requests, slo),
        **preemption_metrics(result, requests),
        **overhead_metrics(result),
        **step_metrics(result, requests),
    }
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def run_flags(result: RunResult) -> dict[str, str]:
    """The tags `pressure`, `saturated` and `degraded`.

    pressure: "no pressure" if nobody was preempted, else "ok". saturated: "true" if a request timed out
    or was never sent, or if the queue had grown until the end: when the last request arrived, a tenth of
    all were waiting for their first token, and more than when half of them had arrived.
    """
    pressed = any(event["type"] == "preempt" for event in result.events)
    return {
        "pressure": "ok" if pressed else "no pressure",
        "saturated": str(is_saturated(measured_requests(result))).lower(),
        "degraded": str(result.degraded).lower(),
    }
