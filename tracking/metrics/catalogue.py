"""Every metric of the benchmark, and the flags of a run.

A metric is one function in a file of `tracking/metrics/topics`, under the decorator `metric`; it is found
there by its name and need be named nowhere else. Only requests outside the warm-up count. Latencies run
from the *scheduled* arrival. A request that failed, timed out or was never sent misses the SLO and stays
in the distributions of TTFT, TPOT and E2E (`tracking/metrics/topics/latency.py` says how); ITL has the gaps that there
were. A p99 needs ten observations beyond it, that is 1,000.
"""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules

import numpy as np

from tracking.metrics import topics
from tracking.metrics.config import SloConfig
from tracking.metrics.ideal import IdealTimes
from tracking.metrics.metric import Metric
from tracking.metrics.samples import is_late, is_saturated, reads_late
from tracking.metrics.topics import sessions
from tracking.metrics.view import RunView
from tracking.result import RunResult


def _found() -> dict[str, Metric]:
    """The metrics of all files in `topics`, by name, in the order in which they stand there."""
    metrics: dict[str, Metric] = {}
    for file in iter_modules(topics.__path__):
        here = vars(import_module(f"{topics.__name__}.{file.name}")).values()
        for metric in (each for each in here if isinstance(each, Metric)):
            if metric.name in metrics:
                raise ValueError(f"metric {metric.name!r} is defined twice")
            metrics[metric.name] = metric
    return metrics


METRICS: dict[str, Metric] = _found()
SESSION_METRICS = frozenset(
    name for name, metric in METRICS.items() if metric.measure.__module__ == sessions.__name__
)
"""Those that only a run with sessions has."""


def compute_metrics(
    result: RunResult, slo: SloConfig, ideal: IdealTimes | None = None, load: float | None = None
) -> dict[str, float]:
    """All metrics of `METRICS` this run has; those it cannot have (no preemption, short tail) are absent.

    inf where a value falls on requests that failed; `tracking.metrics.stored` says how MLflow keeps it.
    Slowdowns need `ideal`; `load` is the offered rate by the engine's capacity.
    """
    return view_metrics(RunView(result, slo, ideal, load))


def view_metrics(run: RunView) -> dict[str, float]:
    """The same of a view."""
    values = {name: metric(run) for name, metric in METRICS.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def run_flags(result: RunResult) -> dict[str, str]:
    """The tags `pressure`, `saturated`, `late_client`, `degraded` and `engine_tested`.

    pressure: "no pressure" if nobody waited for memory or was preempted, else "ok", "unknown" without records. saturated: "true" if a request timed out
    or was never sent, or if more and more requests were in the engine (`tracking.metrics.samples.is_saturated`).
    late_client: "true" if the client, not the engine, made the latencies: more than one request in a hundred was sent over 50 ms
    after it was due, or answers were read over 50 ms and 5 % of E2E after the engine had ended them, in the mean or with more than one request in a hundred. engine_tested: what the adapter said at the start, "unknown" in records that do not tell.
    And the run's own remarks.
    """
    view = RunView(result)
    pressed = bool(view.all_preemptions or result.counted.get("preemptions")) or bool(
        len(view.steps) and view.steps["hol_blocked"].astype(bool).any()
    )
    return (
        {
            "pressure": "ok" if pressed else "no pressure" if result.recorded else "unknown",
            "saturated": str(is_saturated(view.requests)).lower(),
            "late_client": str(is_late(view.send_lag) or reads_late(view.read_lag, view.e2e)).lower(),
            "degraded": str(result.degraded).lower(),
            "engine_tested": str(result.run_start.get("engine_tested", "unknown")).lower(),
        }
        | raised(result)
        | result.remarks
    )


def raised(result: RunResult) -> dict[str, str]:
    """The tag `strategy_error` of a run in which the strategy raised: the file and line of its own code, and what."""
    error = next((event for event in result.events if event["type"] == "strategy_error"), None)
    if error is None:
        return {}
    places = re.findall(r'File "(.+?)", line (\d+), in (\w+)', error.get("traceback", ""))
    own = [place for place in places if "/bidkv/adapters/" not in place[0]]
    where = "{} line {}, in {}: ".format(*own[-1]) if own else ""
    return {"strategy_error": f"{where}{error['error']}"[:500]}


def metric_title(metric: str) -> str:
    """The metric's name with its unit, and an arrow to the side that is better."""
    known = METRICS[metric]
    arrow = {"lower": "↓", "higher": "↑", "none": ""}[known.better]
    return " ".join(part for part in (metric, f"[{known.symbol}]" if known.symbol else "", arrow) if part)
