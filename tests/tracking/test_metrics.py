"""Metrics of hand-made and synthetic runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic import make_run

from tracking.metrics.catalogue import METRICS, compute_metrics, run_flags
from tracking.metrics.classes import class_metrics, classes_json, read_classes
from tracking.metrics.config import SloConfig
from tracking.metrics.ideal import IdealTimes
from tracking.metrics.metric import CLIENT
from tracking.metrics.samples import batch_half_width, jain_index, percentile
from tracking.metrics.stored import from_store, to_store
from tracking.metrics.view import RunView
from tracking.result import REQUEST_COLUMNS, RunResult

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
    assert all(m.unit and m.doc and m.source and m.better for m in METRICS.values())


def test_a_metric_is_its_function():
    metric = METRICS["ttft_p90_s"]
    assert (metric.name, metric.unit, metric.better, metric.source) == ("ttft_p90_s", "s", "lower", CLIENT)
    assert metric.doc == "p90 of scheduled arrival to first token" and metric.title == "TTFT p90"
    assert metric(RunView(run_of([row(0), row(1)]), SLO)) == pytest.approx(1.0)


def test_latencies_count_from_the_scheduled_arrival():
    values = compute_metrics(run_of([row(0, sent_t=0.9), row(1)]), SLO)
    assert values["ttft_mean_s"] == pytest.approx(1.0)
    assert values["e2e_p50_s"] == pytest.approx(2.0)
    assert values["tpot_mean_s"] == pytest.approx(0.05)
    assert values["itl_p50_s"] == pytest.approx(0.05)
    assert values["norm_latency_mean"] == pytest.approx(2 / 21)
    assert values["send_lag_max_s"] == pytest.approx(0.9)
    assert "client_cpu_share" not in values  # nobody measured it
    assert values["window_s"] == pytest.approx(3.0)
    assert values["throughput_tok_s"] == pytest.approx(42 / 3)


def test_requests_that_did_not_finish_miss_the_slo_and_stay_in_the_percentiles():
    rows = [row(0), row(1), unfinished(2), unfinished(3, "error"), unfinished(4, "unsent")]
    values = compute_metrics(run_of(rows), SLO)
    assert values["completion_rate"] == pytest.approx(0.4)
    assert values["slo_attainment"] == pytest.approx(0.4)
    assert values["goodput_req_s"] == pytest.approx(2 / 100)
    assert values["failed_share"] == pytest.approx(0.6)
    assert values["e2e_p50_s"] == np.inf and values["ttft_p90_s"] == np.inf
    assert "e2e_p99_s" not in values  # too few requests for any
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
    assert not any(np.isnan(v) for v in values.values())
    assert all(np.isfinite(v) for name, v in values.items() if "_p" not in name)


def test_a_failed_request_moves_the_restricted_mean_to_the_timeout_and_no_farther():
    rows = [row(i) for i in range(19)] + [unfinished(19)]
    short, long = run_of(rows, finished_t=100.0), run_of(rows, finished_t=10_000.0)
    short.request_timeout_s = long.request_timeout_s = 60.0
    one, other = compute_metrics(short, SLO), compute_metrics(long, SLO)
    assert one["e2e_rmst_s"] == other["e2e_rmst_s"] == pytest.approx((19 * 2 + 60) / 20)
    assert one["ttft_rmst_s"] == pytest.approx((19 * 1 + 60) / 20)
    assert one["e2e_completed_mean_s"] == pytest.approx(2.0)
    assert other["e2e_mean_s"] > 100 * one["e2e_completed_mean_s"]
    whole = run_of(rows[:19])
    whole.request_timeout_s = 60.0
    values = compute_metrics(whole, SLO)
    assert values["e2e_rmst_s"] == values["e2e_mean_s"] == values["e2e_completed_mean_s"]
    assert "e2e_rmst_s" not in compute_metrics(run_of(rows), SLO)  # stored before the timeout was


def test_deadlines():
    rows = [row(0, deadline_s=3.0), row(1, deadline_s=1.5), unfinished(2) | {"deadline_s": 9.0}, row(3)]
    assert compute_metrics(run_of(rows), SLO)["deadline_miss_share"] == pytest.approx(2 / 3)
    assert "deadline_miss_share" not in compute_metrics(run_of([row(0)]), SLO)


def test_who_pays():
    chat, qa = {"kind": "chat"}, {"kind": "qa"}
    rows = [
        row(0) | chat | {"recomputed_tokens": 30, "executed_tokens": 60},
        row(1) | qa | {"recomputed_tokens": 10, "executed_tokens": 40},
        unfinished(2) | qa,
        row(3, warmup=True) | {"kind": "summarisation"},
    ]
    events = [{"type": "preempt", "victim": "r0", "tokens_freed": 30, "source": "strategy"}]
    table = class_metrics(run_of(rows, events))
    assert list(table.index) == ["chat", "qa"]
    assert list(table["requests"]) == [1, 2] and list(table["preemptions"]) == [1, 0]
    assert list(table["failed_share"]) == [0, 0.5] and list(table["e2e_p90_s"]) == [2.0, np.inf]
    assert list(table["recomputed_share"]) == [0.75, 0.25]
    assert table.loc["chat", "executed_tax"] == pytest.approx(0.5)
    pd.testing.assert_frame_equal(read_classes(classes_json(table)), table)


def test_slowdown_needs_an_ideal_that_is_not_of_the_run():
    result = make_run(rate=8.0)
    assert "slowdown_mean" not in compute_metrics(result, SLO)
    ideal = IdealTimes.of(result)
    values = compute_metrics(result, SLO, ideal)
    assert values["slowdown_mean"] > 1 and 0 < values["jain_slowdown"] < 1
    assert IdealTimes.stored(values) == ideal
    result.steps = result.steps.assign(dur=3 * result.steps["dur"])  # all steps slower, same latencies
    assert compute_metrics(result, SLO, ideal)["slowdown_mean"] == values["slowdown_mean"]


def test_p99_needs_ten_observations_beyond_it():
    assert np.isnan(percentile(np.arange(999.0), 0.99))
    assert percentile(np.arange(1000.0), 0.99) == pytest.approx(989.01)
    assert percentile(np.array([1.0, 2.0, np.inf]), 0.5) == 2.0
    assert percentile(np.array([1.0, np.inf, np.inf]), 0.5) == np.inf


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
    assert 0 < values["pool_fits_largest"] < values["pool_fits"]
    assert values["hol_blocked_s"] > 0
    assert values["preemptions"] > 0 and 0 < values["executed_tax"] <= values["nominal_tax"] < 1


def test_what_scheduling_takes_is_said_where_it_is_known():
    result = make_run(rate=8.0)
    values = compute_metrics(result, SLO)
    assert values["schedule_us_mean"] == pytest.approx(40.0)
    assert np.isnan(values.get("schedule_delay_share", np.nan))  # a real engine's steps have it in them
    result.steps["schedule_delay_s"] = 0.25 * result.steps["dur"]
    result.steps.loc[::2, "schedule_us"] = np.nan
    values = compute_metrics(result, SLO)
    assert values["schedule_delay_share"] == pytest.approx(0.25)
    assert values["schedule_us_mean"] == pytest.approx(40.0)


def test_what_fell_on_failures_is_infinite_again_after_the_store():
    values = {"e2e_p90_s": np.inf, "e2e_p50_s": 2.5, "failed_share": 0.2}
    stored = to_store(values)
    assert stored == {"e2e_p90_s.censored": 1.0, "e2e_p50_s": 2.5, "failed_share": 0.2}
    assert from_store(stored) == values


def test_flags():
    assert run_flags(make_run(rate=2.0)) == {
        "pressure": "no pressure",
        "saturated": "false",
        "late_client": "false",
        "degraded": "false",
        "engine_tested": "unknown",  # this engine's records do not tell
    }
    for tested in (True, False):
        start = {"type": "run_start", "engine_tested": tested}
        assert run_flags(run_of([row(0)], [start]))["engine_tested"] == str(tested).lower()
    assert run_flags(make_run(rate=12.0))["saturated"] == "true"
    assert run_flags(make_run(rate=12.0))["pressure"] == "ok"
    assert run_flags(run_of([row(0), unfinished(1)]))["saturated"] == "true"
    late = [row(i, sent_t=i + 0.06) for i in range(2)]
    assert run_flags(run_of([row(i) for i in range(98)] + late))["late_client"] == "true"
    assert (
        run_flags(run_of([row(i) for i in range(198)] + late))["late_client"] == "false"
    )  # one in a hundred
    for behind_s, slow in ((0.04, "false"), (0.12, "true")):  # of 2 s
        ended = [{"type": "request", "id": f"r{i}", "finish_t": i + 2.0 - behind_s} for i in range(9)]
        read = run_of([row(i) for i in range(9)] + [unfinished(9)], ended)
        assert run_flags(read)["late_client"] == slow
        assert compute_metrics(read, SLO)["read_lag_mean_s"] == pytest.approx(behind_s)
    for stalled, slow in ((1, "false"), (3, "true")):  # of a hundred, of which the mean says nothing
        read = [row(i, finish_t=i + (4.0 if i < stalled else 2.0)) for i in range(100)]
        ended = [{"type": "request", "id": f"r{i}", "finish_t": i + 1.99} for i in range(100)]
        assert run_flags(run_of(read, ended))["late_client"] == slow
    degraded = run_of([row(0)], [{"type": "strategy_error", "error": "x", "traceback": "y"}])
    assert run_flags(degraded)["degraded"] == "true"


def test_an_interval_within_a_run_is_as_wide_as_the_means_of_its_stretches_differ():
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = 10 + draw.normal(0, 3, 400)
        half = batch_half_width(values) * values.mean()
        covered += abs(values.mean() - 10) <= half
    assert 180 <= covered <= 199 and half == pytest.approx(2.09 * 3 / 20, rel=0.6)
    neighbours_alike = 10 + np.repeat(draw.normal(0, 3, 20), 20)
    assert batch_half_width(neighbours_alike) > 3 * batch_half_width(10 + draw.normal(0, 3, 400))
    assert batch_half_width(np.arange(1, 401)) > 0.2, "a queue that grows"
    assert np.isnan(batch_half_width(np.ones(79))) and np.isnan(batch_half_width(np.zeros(100)))


def test_restored_tokens_are_of_engines_with_host_memory_alone():
    rows = [
        row(0, restored_tokens=32, restored_resume_tokens=16),
        row(1, restored_tokens=0, restored_resume_tokens=0),
    ]
    for host_memory, expected in ((True, 48.0), (False, None)):
        events = [{"type": "run_start", "host_memory": host_memory}]
        assert compute_metrics(run_of(rows, events), SLO).get("tokens_restored") == expected
