"""Metrics of hand-made and synthetic runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic import make_run

from ray_jobs.config import SloConfig
from ray_jobs.result import REQUEST_COLUMNS, RunResult
from tracking.measure import jain_index, percentile
from tracking.metrics import METRICS, compute_metrics, run_flags

SLO = SloConfig(ttft_s=2.0, tpot_s=0.1)


def row(i: int, **changes) -> dict:
    values = dict.fromkeys(REQUEST_COLUMNS, np.nan) | {
        "request_id": f"r{i}", "kind": "chat", "status": "ok", "error": None, "warmup": False,
        "scheduled_t": float(i), "sent_t": i + 0.01, "first_token_t": i + 1.0, "finish_t": i + 2.0,
        "prompt_tokens": 10, "output_tokens": 21, "true_output_tokens": 21, "max_tokens": 30,
        "itl_s": [0.05] * 20, "executed_tokens": 30, "recomputed_tokens": 0, "preemptions": 0,
        "preempted_s": 0.0,
    }  # fmt: skip
    return values | changes


def run_of(rows: list[dict], events: list[dict] = (), finished_t: float = 100.0) -> RunResult:
    return RunResult(
        "finished", pd.DataFrame(rows, columns=list(REQUEST_COLUMNS)), list(events), finished_t=finished_t
    )


def unfinished(i: int, status: str = "timeout") -> dict:
    return row(i, status=status, first_token_t=np.nan, finish_t=np.nan, output_tokens=0, itl_s=[])


def test_every_metric_is_declared_once_with_its_unit():
    values = compute_metrics(make_run(rate=8.0), SLO)
    assert set(values) <= set(METRICS)
    assert all(m.unit and m.doc and m.source for m in METRICS.values())


def test_latencies_count_from_the_scheduled_arrival():
    values = compute_metrics(run_of([row(0, sent_t=0.9), row(1)]), SLO)
    assert values["ttft_mean_s"] == pytest.approx(1.0)
    assert values["e2e_p50_s"] == pytest.approx(2.0)
    assert values["tpot_mean_s"] == pytest.approx(0.05)
    assert values["itl_p50_s"] == pytest.approx(0.05)
    assert values["norm_latency_mean"] == pytest.approx(2 / 21)
    assert values["send_lag_max_s"] == pytest.approx(0.9)
    assert values["window_s"] == pytest.approx(3.0)
    assert values["throughput_tok_s"] == pytest.approx(42 / 3)


def test_requests_that_did_not_finish_miss_the_slo_and_stay_in_the_percentiles():
    rows = [row(0), row(1), unfinished(2), unfinished(3, "error"), unfinished(4, "unsent")]
    values = compute_metrics(run_of(rows), SLO)
    assert values["completion_rate"] == pytest.approx(0.4)
    assert values["slo_attainment"] == pytest.approx(0.4)
    assert values["goodput_req_s"] == pytest.approx(2 / 100)
    assert "e2e_p50_s" not in values and "ttft_p90_s" not in values
    assert values["e2e_mean_s"] == pytest.approx((2 + 2 + 98 + 97 + 96) / 5)


def test_slow_requests_miss_the_slo():
    slow_first, slow_tokens = row(1, first_token_t=3.5, finish_t=4.0), row(2, finish_t=2 + 1 + 20 * 0.11)
    assert compute_metrics(run_of([row(0), slow_first, slow_tokens]), SLO)["slo_attainment"] == pytest.approx(
        1 / 3
    )


def test_warm_up_is_left_out():
    values = compute_metrics(run_of([row(0, warmup=True, finish_t=90.0), row(1)]), SLO)
    assert values["requests"] == 1
    assert values["e2e_mean_s"] == pytest.approx(2.0)


@pytest.mark.parametrize("rows", [[], [unfinished(0)], [row(0, warmup=True)]])
def test_a_run_in_which_nothing_finished_has_metrics_all_the_same(rows):
    values = compute_metrics(run_of(rows), SLO)
    assert values.get("completion_rate", 0.0) == 0.0
    assert all(np.isfinite(v) for v in values.values())


def test_p99_needs_ten_observations_beyond_it():
    assert np.isnan(percentile(np.arange(999.0), 0.99))
    assert percentile(np.arange(1000.0), 0.99) == pytest.approx(989.01)
    assert percentile(np.array([1.0, 2.0, np.inf]), 0.5) == 2.0
    assert np.isnan(percentile(np.array([1.0, np.inf, np.inf]), 0.5))


def test_tax_is_nominal_from_events_and_executed_from_the_engine():
    rows = [row(0), row(1, executed_tokens=50, recomputed_tokens=20, preemptions=2)]
    events = [
        {
            "type": "preempt",
            "victim": "r1",
            "tokens_freed": 20,
            "select_ns": 2000,
            "hook_ns": 5000,
            "source": by,
        }
        for by in ("strategy", "engine")
    ] + [{"type": "request", "id": "r1", "resume_delays": [0.5, 1.5]}]
    values = compute_metrics(run_of(rows, events), SLO)
    assert values["preemptions"] == 2 and values["preemptions_max"] == 2
    assert values["preempted_share"] == pytest.approx(0.5)
    assert values["nominal_tax"] == pytest.approx(40 / 80)
    assert values["executed_tax"] == pytest.approx(20 / 80)
    assert values["resurrection_ratio"] == pytest.approx(0.5)
    assert values["resume_delay_mean_s"] == pytest.approx(1.0) and values["resume_delay_max_s"] == 1.5
    assert values["strategy_errors"] == 1
    assert values["select_us_mean"] == pytest.approx(2.0) and values["hook_us_mean"] == pytest.approx(5.0)


def test_jain_index_of_equal_and_of_one_sided_values():
    assert jain_index(np.ones(5)) == pytest.approx(1.0)
    assert jain_index(np.array([1.0, 0, 0, 0])) == pytest.approx(0.25)


def test_engine_metrics_of_a_run_under_pressure():
    result = make_run(rate=8.0)
    values = compute_metrics(result, SLO)
    assert 0 < values["kv_util_mean"] < values["kv_util_max"] <= 1
    assert values["hol_blocked_s"] > 0
    assert values["slowdown_mean"] > 1 and 0 < values["jain_slowdown"] < 1
    assert values["preemptions"] > 0 and 0 < values["executed_tax"] <= values["nominal_tax"] < 1


def test_flags():
    assert run_flags(make_run(rate=2.0)) == {
        "pressure": "no pressure",
        "saturated": "false",
        "degraded": "false",
    }
    assert run_flags(make_run(rate=12.0))["saturated"] == "true"
    assert run_flags(make_run(rate=12.0))["pressure"] == "ok"
    assert run_flags(run_of([row(0), unfinished(1)]))["saturated"] == "true"
    degraded = run_of([row(0)], [{"type": "strategy_error", "error": "x", "traceback": "y"}])
    assert run_flags(degraded)["degraded"] == "true"
