"""Does the surrogate predict what a preemption costs? Predicted against realised, event by event."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd

from tracking.result import RunResult, token_times

PREDICTORS = {"delta": "δ", "utility": "U = r/(δ+ε)", "tokens_freed": "tokens freed r"}
COSTS = {"recomputed": "recomputed tokens", "added_s": "added E2E, s"}
MIN_EVENTS = 10  # fewer give no correlation


def preemption_costs(result: RunResult) -> pd.DataFrame:
    """One row a preemption whose victim finished: `delta`, `utility`, `tokens_freed` as predicted, and
    `recomputed` (tokens), `added_s` (seconds) as paid.

    Added E2E is the time from the preemption to the victim's first output token after its resume, less
    its median gap between tokens. The engine counts recomputed tokens per request: a victim preempted
    more than once has them shared out by tokens freed, and `shared` is True.
    """
    delays = {e["id"]: e.get("resume_delays") or [] for e in result.events if e["type"] == "request"}
    requests = {row.request_id: row for row in result.requests.itertuples() if row.status == "ok"}
    by_victim = defaultdict(list)
    for event in result.events:
        if event["type"] == "preempt" and event["victim"] in requests and event.get("delta") is not None:
            by_victim[event["victim"]].append(event)
    rows = []
    for victim, events in by_victim.items():
        request = requests[victim]
        tokens = token_times(request)
        freed = sum(event["tokens_freed"] for event in events)
        gap = float(pd.Series(request.itl_s, dtype=float).median()) if len(tokens) > 1 else 0.0
        for event, delay in zip(events, delays.get(victim, []), strict=False):
            at = event["t"] - result.started_t
            later = tokens[tokens > at + delay]
            if not len(later) or not freed:
                continue
            rows.append(
                {
                    "delta": event["delta"],
                    "utility": event["utility"],
                    "tokens_freed": event["tokens_freed"],
                    "recomputed": request.recomputed_tokens * event["tokens_freed"] / freed,
                    "added_s": max(0.0, later[0] - at - gap),
                    "shared": len(events) > 1,
                }
            )
    return pd.DataFrame(rows, columns=[*PREDICTORS, *COSTS, "shared"])


def rank_correlation(costs: pd.DataFrame, predictor: str, cost: str) -> float:
    """Spearman's rho; NaN with fewer than MIN_EVENTS events or if one side never varies."""
    pair = costs[[predictor, cost]].dropna()
    if len(pair) < MIN_EVENTS or pair.nunique().min() < 2:
        return float("nan")
    from scipy.stats import spearmanr  # takes half a second to import

    return float(spearmanr(pair[predictor], pair[cost]).statistic)
