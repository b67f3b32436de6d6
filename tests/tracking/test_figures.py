"""What the figures draw, and the calibration behind one of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic import make_run

from tracking.evidence.surrogate import preemption_costs, rank_correlation
from tracking.metrics.catalogue import compute_metrics
from tracking.metrics.config import SloConfig
from tracking.plots.overhead import selector_times
from tracking.plots.style import envelope, spread
from tracking.plots.timeline import PHASES, segments
from tracking.reporting.figures import cdf_figure, kv_figure, overhead_figure, run_figure, sweep_figure
from tracking.result import RunResult


@pytest.fixture(scope="module")
def run() -> RunResult:
    return make_run("lcf", rate=8.0)


def all_text(figure) -> str:
    texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


def test_segments_follow_each_request_from_arrival_to_finish(run):
    parts = list(segments(run).itertuples())
    table = run.requests.sort_values("scheduled_t").reset_index(drop=True)
    base = {"queued", "prefill", "decode"}
    for row, request in table.iterrows():
        mine = [p for p in parts if p.row == row]
        spans = sorted((p.start, p.end) for p in mine if p.phase in base)
        assert spans[0][0] == pytest.approx(request["scheduled_t"])
        assert spans[-1][1] == pytest.approx(request["finish_t"])
        assert sum(end - start for start, end in spans) == pytest.approx(
            request["finish_t"] - request["scheduled_t"], abs=1e-5
        )
        preempted = sum(p.end - p.start for p in mine if p.phase == "preempted")
        assert preempted == pytest.approx(request["preempted_s"], abs=1e-5)
    assert {p.phase for p in parts} == set(PHASES)


def test_the_run_figure_names_the_run_and_marks_its_preemptions(run):
    text = all_text(run_figure(run))
    count = sum(event["type"] == "preempt" for event in run.events)
    assert "lcf (fcfs+lcf), seed 0: 120 requests, finished" in text
    assert f"{count} preemptions" in text
    warm = set(run.requests.loc[run.requests["warmup"], "request_id"])
    early = sum(e["type"] == "preempt" and e["victim"] in warm for e in run.events)
    assert (f"{early} of them of the warm-up" in text) == (early > 0)
    assert "seconds since the run's start" in text and "KV in use, %" in text


def test_a_run_that_left_nothing_still_has_a_figure():
    empty = RunResult("failed", make_run(requests=20).requests.iloc[:0])
    assert "no request was sent" in all_text(run_figure(empty))


def test_requests_that_never_finished_end_the_cdf_below_one(run):
    table = run.requests.copy()
    table.loc[table.index[60:], ["status", "finish_t"]] = ["timeout", np.nan]
    cut = RunResult("timeout", table, run.events, run.steps, {}, run.started_t, run.finished_t)
    figure = cdf_figure({"lcf": [cut]}, {"ttft": 2.0})
    e2e = figure.axes[2].lines[0].get_ydata()
    assert e2e[-1] == pytest.approx(50 / 110)  # ten of the sixty are warm-up


def test_the_sweep_figure_has_a_row_for_each_load_and_keeps_the_order():
    rows = [
        SimpleNamespace(
            group=f"mixed at {rate} req/s", strategy=name, metrics=compute_metrics(result, SloConfig())
        )
        for rate in (3.0, 8.0)
        for name in ("preempt-evict", "largest-first")
        for result in [make_run(name, rate=rate, requests=60)]
    ]
    figure = sweep_figure(rows)
    assert len(figure.subfigs) == 2
    labels = [tick.get_text() for tick in figure.subfigs[0].axes[0].get_yticklabels()]
    assert labels == ["preempt-evict", "largest-first"]


def test_kv_and_overhead_figures_show_every_strategy(run):
    results = {"lcf": run, "preempt-evict": make_run(rate=8.0)}
    kv = all_text(kv_figure(results))
    times = {name: selector_times(result) for name, result in results.items()}
    overhead = all_text(overhead_figure(times))
    assert all(name in kv and name in overhead for name in results)
    assert len(times["lcf"]) == sum(e["type"] == "preempt" for e in run.events)
    assert "no policy decided anything" in all_text(overhead_figure({"x": times["lcf"].iloc[:0]}))


def test_realised_costs_add_up_to_what_the_engine_recomputed(run):
    costs = preemption_costs(run)
    victims = run.requests[run.requests["preemptions"] > 0]
    assert costs["recomputed"].sum() == pytest.approx(victims["recomputed_tokens"].sum())
    assert (costs["added_s"] >= 0).all()
    once = victims[victims["preemptions"] == 1]["resume_delay_s"].sum()
    assert costs.loc[~costs["shared"], "added_s"].sum() >= 0.8 * once


def test_rank_correlation_knows_perfect_none_and_too_few():
    table = pd.DataFrame({"delta": np.arange(20.0), "added_s": np.arange(20.0) ** 2, "recomputed": 1.0})
    assert rank_correlation(table, "delta", "added_s") == pytest.approx(1.0)
    assert rank_correlation(table.assign(added_s=-table["added_s"]), "delta", "added_s") == pytest.approx(
        -1.0
    )
    assert np.isnan(rank_correlation(table, "delta", "recomputed"))
    assert np.isnan(rank_correlation(table.iloc[:5], "delta", "added_s"))


def test_a_long_line_keeps_its_ends_and_extremes_in_every_column():
    x = np.linspace(0.0, 10.0, 50_000)
    y = np.random.default_rng(0).normal(size=len(x))
    y[31_234] = 9.0
    short_x, short_y = envelope(x, y, columns=100)
    assert len(short_x) <= 202 and (np.diff(short_x) > 0).all()
    assert (short_x[0], short_x[-1]) == (0.0, 10.0)
    assert short_y.max() == 9.0 and short_y.min() == y.min()
    assert len(envelope(x[:400], y[:400], columns=100)[0]) == 400


def test_labels_at_line_ends_do_not_overlap_and_stay_inside():
    assert spread([0.2, 0.8], 0.1) == [0.2, 0.8]
    crowded = spread([0.95, 0.97, 0.99, 1.0], 0.1)
    assert crowded == pytest.approx([0.7, 0.8, 0.9, 1.0])
    assert spread([], 0.1) == []
