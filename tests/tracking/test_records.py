"""A run that lost records has failed; see tracking/records.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic import make_run

from tracking.metrics.catalogue import METRICS, compute_metrics, run_flags
from tracking.metrics.classes import class_metrics
from tracking.metrics.config import SloConfig
from tracking.metrics.metric import CLIENT
from tracking.plots.overview import run_figure
from tracking.records import check_complete
from tracking.result import RunResult


@pytest.fixture
def run() -> RunResult:
    return make_run(rate=8.0)


def without(result: RunResult, kind: str) -> RunResult:
    """The same run without the last record of this kind, as if the disk had been full."""
    last = max(i for i, event in enumerate(result.events) if event["type"] == kind)
    del result.events[last]
    return result


def test_a_whole_run_is_complete(run):
    assert check_complete(run) == []
    assert run.status == "finished" and run.error is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("run_end", "0 run_end records, expected 1"),
        ("run_start", "0 run_start records, expected 1"),
        ("request", "1 of 120 requests without a record, such as "),
        ("preempt", "preemptions recorded, run_end counts "),
        ("preempt", "1 requests with other preemptions than events"),
    ],
)
def test_a_lost_record_fails_the_run_and_says_which(run, kind, said):
    missing = check_complete(without(run, kind))
    assert any(said in line for line in missing)
    assert run.status == "failed" and said in run.error


def test_the_tail_of_a_run_that_filled_the_disk(run):
    run.events = run.events[: len(run.events) // 2]
    missing = check_complete(run)
    assert "0 run_end records, expected 1" in missing and any("without a record" in m for m in missing)


def test_lost_steps_and_lines_counted_as_lost(run):
    run.steps = run.steps.iloc[:-50]
    run.events[-1]["events_lost"] = 3
    missing = check_complete(run)
    assert any("steps recorded, run_end counts" in m for m in missing) and "3 events lost" in missing


def test_requests_that_never_reached_the_scheduler_need_no_record(run):
    without(run, "request")
    recorded = {event["id"] for event in run.events if event["type"] == "request"}
    lost = ~run.requests["request_id"].isin(recorded)
    for status in ("unsent", "error"):
        run.requests.loc[lost, "status"] = status
        assert check_complete(run) == []
    run.requests.loc[lost, "status"] = "timeout"
    assert check_complete(run) != []


def test_a_run_without_the_adapter_owes_no_records_and_has_no_counts(run, tmp_path):
    """Nobody counted preemptions: they are not known, and not 0."""
    counted = compute_metrics(run, SloConfig())
    bare = replace(run, events=[], steps=pd.DataFrame(), recorded=False)
    bare.save(tmp_path)
    bare = RunResult.load(tmp_path)
    assert check_complete(bare) == [] and bare.status == "finished"
    seen = compute_metrics(bare, SloConfig())
    assert seen["e2e_mean_s"] == counted["e2e_mean_s"] and "preemptions" in counted
    assert all(METRICS[name].source == CLIENT for name in seen)
    assert run_flags(bare)["pressure"] == "unknown"
    assert not np.isfinite(class_metrics(bare)["preemptions"]).any()
    assert "without the adapter" in run_figure(bare).get_suptitle()


def test_a_run_that_should_have_records_and_has_none_has_failed(run):
    run.events, run.steps = [], pd.DataFrame()
    assert any("run_end" in line for line in check_complete(run)) and run.status == "failed"
