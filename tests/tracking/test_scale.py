"""Where a cell lies: how many requests its pool fits, how near its load is to capacity; and who says so."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hostile import BASE, OTHER, PRIMARY, RULES, pairs, screen, stored, sweep_of
from synthetic import make_run

from ray_jobs.drive.recording import load_of_capacity
from tracking.evidence.paired import compare
from tracking.evidence.scale import Scale, scale_of
from tracking.metrics.catalogue import compute_metrics
from tracking.metrics.config import SloConfig
from tracking.plots.regimes import regime_figure
from tracking.reporting.machine import as_csv, as_json
from tracking.reporting.sections import scale_parts
from tracking.reporting.summary import by_scale

AT_95 = {"params": {"workload.capacity": "4.2105"}, "metrics": {"pool_fits": 34.2}}


@pytest.mark.parametrize(
    ("scale", "text", "short"),
    [
        (Scale(34.2, None, 0.95), "34 requests fit, at 95 % of capacity", "34 fit, 95 %"),
        (Scale(3.44, 1.26), "3.4 requests fit, 1.3 live sessions fit", "3.4 fit"),
        (Scale(1234.0), "1,200 requests fit", "1,200 fit"),
        (Scale(load=1.1), "at 110 % of capacity", "110 %"),
        (Scale(), "", ""),
    ],
)
def test_a_place_is_a_line_of_what_is_known(scale, text, short):
    assert (scale.text, scale.short) == (text, short)


def test_the_load_is_the_rate_by_the_capacity_that_was_found():
    assert load_of_capacity({"rate": 4.0, "capacity": 5.0}) == pytest.approx(0.8)
    assert load_of_capacity({"rate": 4.0, "capacity": None}) is None
    run = stored(BASE, 0, 1.0, **AT_95)
    assert run.load_of_capacity == pytest.approx(0.95, abs=1e-3) and not run.saturated
    assert stored(BASE, 0, 1.0).load_of_capacity is None
    assert compute_metrics(make_run(), SloConfig(), load=0.95)["load_of_capacity"] == 0.95
    assert "load_of_capacity" not in compute_metrics(make_run(), SloConfig())


def test_runs_from_before_there_was_the_metric_find_their_place_by_their_records():
    run = stored(BASE, 0, 1.0)
    run.load_result = lambda: make_run(blocks=160)
    values = compute_metrics(make_run(blocks=160), SloConfig())
    assert scale_of([run]) == Scale(values["pool_fits"], None, None) and values["pool_fits"] > 1

    def gone():
        raise ValueError("run other-0: no records in the store")

    run.load_result = gone
    assert scale_of([run]) == Scale()


def test_compare_says_where_each_cell_is():
    (table,) = compare(sweep_of(pairs(8, other=None, **AT_95)), BASE, [PRIMARY], RULES)
    assert "scale: 34 requests fit, at 95 % of capacity" in screen(table, 80)
    tree = json.loads(as_json(sweep_of([]), [table], classes=False))["tables"][0]
    assert tree["scale"]["fits"] == pytest.approx(34.2) and tree["scale"]["text"].startswith("34 requests")
    rows = list(csv.DictReader(io.StringIO(as_csv([table]))))
    assert {row["fits"] for row in rows} == {"34.2"} and all(row["load"].startswith("0.9") for row in rows)


def test_the_report_says_it_in_each_cell_and_orders_its_map_by_it():
    cells = [(700.0, "whole"), (12.0, "tight"), (None, "unknown"), (90.0, "middle")]
    runs = []
    for fits, workload in cells:
        metrics = {} if fits is None else {"pool_fits": fits}
        runs += pairs(8, workload=workload, metrics=metrics)
    tables = compare(sweep_of(runs), BASE, [PRIMARY], RULES)
    ordered = by_scale(tables)
    assert [t.title.split()[0] for t in ordered] == ["tight", "middle", "whole", "unknown"]
    ticks = [tick.get_text() for tick in regime_figure(ordered).axes[0].get_xticklabels()]
    assert [tick.splitlines()[-1] for tick in ticks[:3]] == ["12 fit", "90 fit", "700 fit"]
    of_one = [run for run in runs if run.tags["workload"] == "tight" and run.strategy in (BASE, OTHER)]
    assert [note.text for note in scale_parts(of_one, BASE)] == ["Scale: 12 requests fit."]
