"""How the numbers of `tracking.metrics` come out of a run's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ray_jobs.result import RunResult

if TYPE_CHECKING:
    from ray_jobs.config import SloConfig

MIN_TAIL = 10  # observations a p99 must have beyond it
SATURATED_SHARE = 0.10  # of the requests, still waiting for their first token when the last one arrives


def measured_requests(result: RunResult) -> pd.DataFrame:
    """The requests outside the warm-up, with numeric columns and `ttft`, `tpot`, `e2e` in seconds.

    The three are inf where the request did not get there; `tpot` is NaN for one-token outputs.
    """
    table = result.requests
    table = table[~table["warmup"].astype(bool)].copy()
    for name in table.columns.difference(["request_id", "kind", "status", "error", "warmup", "itl_s"]):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    ok = table["status"] == "ok"
    table["ttft"] = (table["first_token_t"] - table["scheduled_t"]).fillna(np.inf)
    table["e2e"] = (table["finish_t"] - table["scheduled_t"]).where(ok, np.inf)
    decode = (table["finish_t"] - table["first_token_t"]) / (table["output_tokens"] - 1)
    table["tpot"] = decode.where(table["output_tokens"] > 1).where(ok, np.inf)
    return table


def percentile(values: np.ndarray, q: float, min_tail: int = MIN_TAIL) -> float:
    """Interpolated percentile; NaN if empty, if it falls on an inf, or for a p99 with a short tail."""
    values = np.sort(values)
    if not len(values) or (q >= 0.99 and len(values) * (1 - q) < min_tail - 1e-9):
        return np.nan
    finite = int(np.isfinite(values).sum())
    if int(np.ceil(q * (len(values) - 1))) >= finite:
        return np.nan
    return float(np.quantile(np.where(np.isfinite(values), values, values[finite - 1]), q))


def ideal_seconds(result: RunResult, requests: pd.DataFrame) -> pd.Series:
    """E2E each request would have alone: prompt tokens x p + output tokens x d, in seconds.

    d is the 5th percentile of a pure decode step, p that of seconds per prefilled token, both of this
    very run; NaN without step records. Jain's index depends on p / d only.
    """
    steps = result.steps
    if not len(steps):
        return pd.Series(np.nan, index=requests.index)
    decode = steps.loc[(steps["prefill_tokens"] == 0) & (steps["decode_tokens"] > 0), "dur"]
    prefill = steps.loc[steps["prefill_tokens"] > 0]
    per_output = decode.quantile(0.05)
    per_prompt = (prefill["dur"] / prefill["prefill_tokens"]).quantile(0.05)
    return requests["prompt_tokens"] * per_prompt + requests["true_output_tokens"] * per_output


def _run_end(result: RunResult, requests: pd.DataFrame) -> float:
    """Seconds from the run's start to its end; never before the last thing seen of a request."""
    seen = requests[["scheduled_t", "sent_t", "first_token_t", "finish_t"]].to_numpy(float)
    last = np.nanmax(seen) if np.isfinite(seen).any() else 0.0
    return max(result.finished_t - result.started_t, last)


def _window(result: RunResult, requests: pd.DataFrame) -> float:
    ok = requests["status"] == "ok"
    end = requests["finish_t"].max() if ok.all() else _run_end(result, requests)
    return float(end - requests["scheduled_t"].min()) if len(requests) else np.nan


def latency_metrics(result: RunResult, requests: pd.DataFrame) -> dict[str, float]:
    if not (requests["status"] == "ok").any():
        return {}
    waited = _run_end(result, requests) - requests["scheduled_t"]
    outputs = requests["output_tokens"].clip(lower=1)
    gaps = [np.asarray(gap, float) for gap in requests["itl_s"] if gap is not None and np.ndim(gap) == 1]
    series = {
        "ttft": (requests["ttft"], waited),
        "tpot": (requests["tpot"].dropna(), waited / outputs),
        "itl": (pd.Series(np.concatenate(gaps) if gaps else [], dtype=float), None),
        "e2e": (requests["e2e"], waited),
    }
    values = {}
    for short, (measured, lower_bound) in series.items():
        array = measured.to_numpy(float)
        bounded = measured if lower_bound is None else measured.where(np.isfinite(measured), lower_bound)
        values[f"{short}_mean_s"] = bounded.mean()
        for q in (50, 90, 99):
            values[f"{short}_p{q}_s"] = percentile(array, q / 100)
    e2e = requests["e2e"].where(np.isfinite(requests["e2e"]), waited)
    values["norm_latency_mean"] = (e2e / outputs).mean()
    return values


def service_metrics(result: RunResult, requests: pd.DataFrame, slo: SloConfig) -> dict[str, float]:
    if not len(requests):
        return {"requests": 0}
    ok, window = requests["status"] == "ok", _window(result, requests)
    within = ok & (requests["ttft"] <= slo.ttft_s) & (requests["tpot"].fillna(0.0) <= slo.tpot_s)
    lag = (requests["sent_t"] - requests["scheduled_t"]).dropna().to_numpy()
    return {
        "requests": len(requests),
        "window_s": window,
        "completion_rate": ok.mean(),
        "throughput_req_s": ok.sum() / window,
        "throughput_tok_s": requests.loc[ok, "output_tokens"].sum() / window,
        "slo_attainment": within.mean(),
        "goodput_req_s": within.sum() / window,
        "send_lag_p99_s": percentile(lag, 0.99),
        "send_lag_max_s": lag.max() if len(lag) else np.nan,
        **_slowdown_metrics(result, requests),
    }


def _slowdown_metrics(result: RunResult, requests: pd.DataFrame) -> dict[str, float]:
    waited = _run_end(result, requests) - requests["scheduled_t"]
    e2e = requests["e2e"].where(np.isfinite(requests["e2e"]), waited)
    slowdown = (e2e / ideal_seconds(result, requests)).to_numpy(float)
    if not np.isfinite(slowdown).all():
        return {}
    return {"slowdown_mean": slowdown.mean(), "jain_slowdown": jain_index(slowdown)}


def jain_index(values: np.ndarray) -> float:
    """(sum x)^2 / (n sum x^2), in [1/n, 1]."""
    return float(values.sum() ** 2 / (len(values) * (values**2).sum()))


def preemption_metrics(result: RunResult, requests: pd.DataFrame) -> dict[str, float]:
    ids = set(requests["request_id"])
    events = [e for e in result.events if e["type"] == "preempt" and e["victim"] in ids]
    counts = pd.Series([e["victim"] for e in events], dtype=object).value_counts()
    per_request = requests["request_id"].map(counts).fillna(0).to_numpy()
    recorded = requests[requests["executed_tokens"].notna()]
    recorded_ids = set(recorded["request_id"])
    freed = sum(e["tokens_freed"] for e in events)
    freed_recorded = sum(e["tokens_freed"] for e in events if e["victim"] in recorded_ids)
    executed, recomputed = recorded["executed_tokens"].sum(), recorded["recomputed_tokens"].sum()
    delays = [
        delay
        for e in result.events
        if e["type"] == "request" and e["id"] in ids
        for delay in e.get("resume_delays") or ()
    ]
    values = {
        "preemptions": len(events),
        "tokens_freed": freed,
        "tokens_recomputed": recomputed,
        "nominal_tax": freed_recorded / executed if executed else np.nan,
        "executed_tax": recomputed / executed if executed else np.nan,
        "resurrection_ratio": 1 - recomputed / freed_recorded if freed_recorded else np.nan,
        "preempted_s_mean": recorded["preempted_s"].mean() if len(recorded) else np.nan,
        "resume_delay_mean_s": np.mean(delays) if delays else np.nan,
        "resume_delay_max_s": max(delays) if delays else np.nan,
    }
    if len(per_request):
        values["preemptions_max"] = per_request.max()
        values["preemptions_p99"] = percentile(per_request, 0.99)
        values["preempted_share"] = (per_request > 0).mean()
    return values


def overhead_metrics(result: RunResult) -> dict[str, float]:
    preempts = [e for e in result.events if e["type"] == "preempt"]
    select = np.array([e["select_ns"] for e in preempts if e.get("select_ns")], float) / 1e3
    hook = np.array([e["hook_ns"] for e in preempts if e.get("hook_ns") is not None], float) / 1e3
    return {
        "select_us_mean": select.mean() if len(select) else np.nan,
        "select_us_p50": percentile(select, 0.50),
        "select_us_p99": percentile(select, 0.99),
        "hook_us_mean": hook.mean() if len(hook) else np.nan,
        "strategy_errors": sum(e["source"] == "engine" for e in preempts),
    }


def step_metrics(result: RunResult, requests: pd.DataFrame) -> dict[str, float]:
    if not len(result.steps) or not len(requests):
        return {}
    at = result.steps["t"] - result.started_t
    start = requests["scheduled_t"].min()
    steps = result.steps[(at >= start) & (at <= start + _window(result, requests))]
    values = {"hol_blocked_s": steps.loc[steps["hol_blocked"].astype(bool), "dur"].sum()}
    blocks = kv_blocks(result)
    if blocks and steps["dur"].sum() > 0:
        share = steps["used_blocks"] / blocks
        values["kv_util_mean"] = np.average(share, weights=steps["dur"])
        values["kv_util_max"] = share.max()
    return values


def kv_blocks(result: RunResult) -> int | None:
    """KV blocks of the engine, from the run_start event; None if it is not there."""
    return next((e.get("num_blocks") for e in result.events if e["type"] == "run_start"), None)


def is_saturated(requests: pd.DataFrame) -> bool:
    if not len(requests):
        return False
    if requests["status"].isin(["timeout", "unsent"]).any():
        return True
    arrivals, first = requests["scheduled_t"], requests["first_token_t"].fillna(np.inf)

    def waiting(at: float) -> int:
        return int(((arrivals <= at) & (first > at)).sum())

    at_last, at_half = waiting(arrivals.max()), waiting(arrivals.median())
    return at_last >= SATURATED_SHARE * len(requests) and at_last > at_half
