"""Stores that would mislead a comparison, one a point: verdicts, guardrails and the first screen get them right."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hostile import (
    BASE,
    OTHER,
    PRIMARY,
    RULES,
    pairs,
    requests_of,
    screen,
    statuses,
    stored,
    sweep_of,
    table_of,
)
from synthetic_store import log_sweep

from tracking.config import CompareConfig
from tracking.evidence.classes import who_pays
from tracking.evidence.config import EvidencePlan
from tracking.evidence.outcomes import outcome
from tracking.evidence.paired import Table, compare
from tracking.reporting.answer import log_answer
from tracking.reporting.headline import headline, overall
from tracking.reporting.machine import as_csv
from tracking.result import RunResult
from tracking.store.reader import RunReader, _is_failure

ROOT = Path(__file__).parents[2]


# Pseudo-replication


def test_one_trace_under_eight_seeds_is_one_pair():
    runs = pairs(8, trace_hash="the same")
    table = table_of(runs)
    row = table.find(PRIMARY, OTHER)
    assert (row.verdict, row.test.pairs, row.blocks) == ("too few runs", 1, 1)
    assert any("seeds 0, 1, 2, 3, 4, 5, 6, 7 have the same trace" in note for note in table.notes)
    assert "too few runs" in headline(table)
    assert table_of(pairs(8)).find(PRIMARY, OTHER).verdict == "better"


def test_a_recording_replayed_under_eight_seeds_is_one_pair():
    """Token ids are drawn anew, so the hashes differ; arrivals and lengths are those of the file."""
    table = table_of(pairs(8, trace_shape="one recording"))
    assert (table.find(PRIMARY, OTHER).verdict, table.find(PRIMARY, OTHER).test.pairs) == ("too few runs", 1)
    assert any("seeds 0, 1, 2, 3, 4, 5, 6, 7 have the same trace" in note for note in table.notes)


def test_seeds_that_share_a_trace_are_averaged_into_one_pair():
    runs = pairs(10)
    for run in runs:
        if run.seed in ("8", "9"):
            run.tags["trace_hash"] = "hash-7"
    table = table_of(runs)
    assert table.seeds == [*"0123456", "7=8=9"]
    assert table.find(PRIMARY, OTHER).test.pairs == 8


# Survivorship


@pytest.mark.parametrize("requests", [{"completion_rate": 0.9}, {"failed_share": 0.1}])
@pytest.mark.parametrize("missing", [{}, {"e2e_p99_s": np.inf}, {"e2e_p99_s": np.nan}])
def test_a_percentile_that_falls_on_timeouts_loses_its_pair(requests, missing):
    runs = pairs(10)
    for run in runs:
        if run.strategy == OTHER and int(run.seed) < 3:
            del run.metrics["e2e_p99_s"]
            run.metrics |= requests | missing
    row = table_of(runs).find("e2e_p99_s", OTHER)
    assert (row.test.pairs, row.test.failed, row.blocks) == (10, 3, 10)
    assert row.verdict == "no difference shown"


def test_a_p99_that_is_missing_for_want_of_requests_is_no_failure():
    runs = pairs(8, metrics={"requests": 500.0, "completion_rate": 0.9})
    for run in runs:
        del run.metrics["e2e_p99_s"]
    assert table_of(runs).find("e2e_p99_s", OTHER) is None


def test_runs_that_failed_count_as_the_worst():
    lost = {seed: {"failed": True} for seed in range(3)}
    table = table_of(pairs(10, other=lost))
    row = table.find(PRIMARY, OTHER)
    assert (row.test.pairs, row.test.failed, row.verdict) == (10, 3, "no difference shown")
    assert any("other: failed for seed 0, 1, 2" in note for note in table.notes)
    assert statuses(table) == dict.fromkeys(("completion_rate", "throughput_tok_s", "e2e_p99_s"), "broken")
    assert "10/10, 3" in screen(table, 100)


def test_a_strategy_that_always_fails_is_worse():
    table = table_of(pairs(8, other={seed: {"failed": True} for seed in range(8)}))
    row = table.find(PRIMARY, OTHER)
    assert (row.verdict, row.test.failed) == ("worse", 8)
    assert set(statuses(table).values()) == {"broken"}
    assert "worse: other" in headline(table)


def test_a_baseline_without_results_makes_no_winner():
    runs = pairs(8, factor=1.0)
    runs = [
        stored(BASE, int(r.seed), 1.0, failed=True) if r.strategy == BASE and r.seed != "0" else r
        for r in runs
    ]
    row = table_of(runs).find(PRIMARY, OTHER)
    assert (row.verdict, row.test.pairs, row.test.failed) == ("no baseline", 1, 0)


@pytest.mark.parametrize("timeouts, expected", [(0.0, 0.3), (0.5, 30.0)])
def test_a_run_stored_without_a_restricted_mean_gets_one(timeouts, expected):
    metrics = {"e2e_mean_s": 0.3, "completion_rate": 1 - timeouts}
    run = stored(OTHER, 0, 0.3, metrics=metrics, requests=requests_of(0.3, timeouts=timeouts))
    del run.metrics[PRIMARY]
    assert outcome(run, PRIMARY) == pytest.approx(expected, rel=0.02)
    run.params.clear()
    assert timeouts == 0 or outcome(run, PRIMARY) == np.inf


@pytest.mark.parametrize(
    ("error", "own", "answers"),
    [
        ("RuntimeError: the engine died", False, True),
        ("EngineStartError: no GPU", False, False),
        ("EngineStartError: CUDA out of memory", True, True),
    ],
)
def test_a_strategy_answers_for_an_engine_that_its_own_settings_do_not_let_start(error, own, answers):
    params = {"strategy.name": OTHER} | ({"strategy.engine.kv_offload_gib": "900"} if own else {})
    tags, info = {"error": error}, SimpleNamespace(status="FAILED")
    assert _is_failure(SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, params=params))) == answers


# Catastrophes


def test_zero_throughput_is_broken():
    dead = {seed: {"metrics": {"throughput_tok_s": 0.0, "completion_rate": 0.0}} for seed in range(8)}
    assert set(statuses(table_of(pairs(8, other=dead))).values()) == {"broken"}


@pytest.mark.parametrize("requests", [2000.0, 100.0])
def test_five_percent_timeouts_break_the_p99_and_are_never_not_measured(requests):
    runs = pairs(8, factor=0.9)
    for run in runs:
        run.metrics |= {"requests": requests}
        if run.strategy == OTHER:
            run.metrics |= {"completion_rate": 0.94}
            table = requests_of(1.0, timeouts=0.06)
            run.load_result = lambda table=table: RunResult("finished", table)
        del run.metrics["e2e_p99_s"]
    table = table_of(runs)
    assert statuses(table)["e2e_p99_s"] == "broken" and statuses(table)["completion_rate"] == "broken"
    assert "breaks" in headline(table) and "better, but" in screen(table, 80)


def test_timeouts_of_both_are_unsure_unless_the_strategy_has_more():
    def with_timeouts(base: float, other: float) -> Table:
        runs = pairs(8, factor=1.0)
        for run in runs:
            share = base if run.strategy == BASE else other
            del run.metrics["e2e_p99_s"]
            run.metrics["completion_rate"] = 1 - share
            run.load_result = lambda share=share: RunResult("finished", requests_of(1.0, timeouts=share))
        return table_of(runs)

    assert statuses(with_timeouts(0.06, 0.06))["e2e_p99_s"] == "unsure"
    assert statuses(with_timeouts(0.06, 0.09))["e2e_p99_s"] == "broken"
    assert statuses(with_timeouts(0.09, 0.0))["e2e_p99_s"] == "held"


# What must not be averaged


@pytest.mark.parametrize("key", ["slo.ttft_s", "run.request_timeout_s", "engine.num_cpus", "engine.env.FLAG"])
def test_runs_of_other_settings_are_another_cell(key):
    runs = pairs(8, params={key: "1"}) + pairs(8, factor=1.2, params={key: "2"})
    tables = compare(sweep_of(runs), BASE, [PRIMARY])
    assert [table.title for table in tables] == [f"mixed at 4 req/s, {key}={value}" for value in "12"]
    assert [table.find(PRIMARY, OTHER).verdict for table in tables] == ["better", "worse"]


@pytest.mark.parametrize("label", [BASE, OTHER])
def test_one_label_for_two_strategies_is_refused_and_names_the_key(label):
    runs = pairs(8)
    for run in runs:
        run.params["strategy.params.limit"] = "7" if (run.strategy, run.seed) == (label, "3") else "3"
    with pytest.raises(ValueError, match=f"'{label}' has runs of different strategy.params.limit \\(3, 7\\)"):
        table_of(runs)


# Differences that do not matter


def test_float_noise_gives_no_verdict():
    runs = [stored(BASE, s, 0.3) for s in range(8)] + [stored(OTHER, s, 0.1 + 0.2) for s in range(8)]
    table = table_of(runs)
    assert table.find(PRIMARY, OTHER).verdict == "equivalent"
    assert headline(table) == "no difference that matters from preempt-evict in mean E2E"


def test_a_small_sure_difference_is_equivalent_until_the_plan_says_that_it_matters():
    runs = pairs(8, factor=0.997, noise=0.0005)
    assert table_of(runs).find(PRIMARY, OTHER).verdict == "equivalent"
    plan = EvidencePlan(practical={"default": 0.005, PRIMARY: 0.0005})
    assert table_of(runs, plan=plan).find(PRIMARY, OTHER).verdict == "better"


# One primary metric, corrected over strategies x cells


def test_the_primary_is_corrected_over_cells_and_the_others_are_exploratory():
    quiet = [pairs(8, factor=1.0, params={"engine.num_blocks": str(n)}) for n in range(3)]
    loud = pairs(8, params={"engine.num_blocks": "9"})
    tables = compare(sweep_of(sum(quiet, []) + loud), BASE, [PRIMARY, "e2e_p99_s"])
    row, hint = tables[-1].find(PRIMARY, OTHER), tables[-1].find("e2e_p99_s", OTHER)
    assert row.family == 4 and row.p_holm == pytest.approx(4 * row.test.p_value) and not row.exploratory
    assert hint.family == 1 and hint.exploratory


def test_an_aa_control_is_recognised_left_out_of_the_family_and_speaks_up_when_it_fails():
    runs = pairs(8)
    again = "preempt-evict-again"
    for shift, warns in ((1.0, False), (1.05, True)):
        control = [
            stored(again, int(r.seed), shift * r.metrics[PRIMARY], params={"strategy.name": BASE, "strategy.label": again})
            for r in runs if r.strategy == BASE
        ]  # fmt: skip
        table = table_of(runs + control)
        assert table.controls == [again] and table.find(PRIMARY, OTHER).family == 1
        assert any("(A/A), yet its interval" in note for note in table.notes) == warns
        assert "(A/A)" in screen(table, 100) and again not in headline(table)


def test_slowdowns_of_an_older_store_come_with_a_warning():
    runs = pairs(8)
    for run in runs:
        run.metrics["slowdown_mean"] = 2.0
    (table,) = compare(sweep_of(runs), BASE, ["slowdown_mean"])
    assert any("slowdown_mean: of an older store" in note for note in table.notes)
    for run in runs:
        run.metrics["ideal_decode_s"] = 0.01
    (table,) = compare(sweep_of(runs), BASE, ["slowdown_mean"])
    assert not any("older store" in note for note in table.notes)


# What was not seen, and who pays


def test_what_could_not_be_seen_is_said():
    table = table_of(pairs(8, factor=1.0, noise=0.05))
    row = table.find(PRIMARY, OTHER)
    assert row.verdict == "no difference shown"
    assert 0.03 < row.smallest_shown < 0.15
    assert f"a difference under {100 * row.smallest_shown:.1f} % would not show" in headline(table)
    assert np.isinf(table_of(pairs(5, factor=1.0)).find(PRIMARY, OTHER).smallest_shown)


def test_who_pays_is_told_class_by_class():
    runs = pairs(8)
    for run in runs:
        factors = {"chat": 0.5, "qa": 1.4} if run.strategy == OTHER else {}
        level = run.metrics[PRIMARY] / (0.8 if run.strategy == OTHER else 1.0)
        run.load_result = lambda level=level, factors=factors: RunResult(
            "finished", requests_of(level, factors=factors)
        )
    chat, qa = who_pays(table_of(runs))
    assert (chat.kind, qa.kind) == ("chat", "qa")
    assert chat.ratio.value == pytest.approx(0.5, rel=0.02) and qa.ratio.value == pytest.approx(1.4, rel=0.02)
    assert chat.missed[0] > chat.missed[1] and qa.missed[0] < qa.missed[1]


def test_a_store_without_request_tables_is_still_compared_and_says_so():
    runs = pairs(8)

    def gone() -> pd.DataFrame:
        raise ValueError("run other-0: no request table in the store: No such file")

    for run in runs:
        run.load_requests = gone
    table = table_of(runs)
    assert who_pays(table) == who_pays(table) == [] and table.find(PRIMARY, OTHER).verdict == "better"
    assert [note for note in table.notes if "who pays is not known: run other-0" in note] == table.notes


# The first screen


def test_the_sentence_names_the_winner_and_what_a_faster_one_breaks():
    runs = pairs(8, factor=0.92)
    for seed in range(8):
        level = runs[2 * seed].metrics[PRIMARY]
        runs.append(stored("token-seconds", seed, 0.7 * level, metrics={"e2e_p99_s": 10.4 * level}))
    text = headline(table_of(runs))
    known = r"other: mean E2E −\d\.\d % \[−.*, −.*\], guardrails held; token-seconds is faster but breaks p99 E2E \(2\.6×\)"
    assert re.fullmatch(known, text), text


def test_a_sentence_over_several_loads_counts_where_each_strategy_is_better():
    def loads(count: int, seeds: int = 9) -> list:
        """`other` is better in all but the last, where it is worse; `costly` is better and breaks p99."""
        tables = []
        for load in range(count):
            runs = pairs(seeds, factor=0.92 if load < count - 1 else 1.2)
            for seed in range(seeds):
                level = runs[2 * seed].metrics[PRIMARY]
                runs.append(stored("costly", seed, 0.7 * level, metrics={"e2e_p99_s": 10.4 * level}))
            tables.append(table_of(runs))
        return tables

    text = overall(loads(3))
    assert re.match(
        r"other: better in 2 of 3 loads, guardrails held, mean E2E −\d\.\d %.*, worse in 1; ", text
    ), text
    assert "faster but with a guardrail broken: costly (3)" in text
    assert overall(loads(1)) is None
    assert overall(loads(2, seeds=3)).startswith("too few runs to say what is better than preempt-evict")


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_cut_on_a_narrow_screen(width):
    names = ["a-long-name[admission=sjf,victim=cost-aware,limit=3]", "preempt-evict-sjf"]
    runs = pairs(9, other={0: {"failed": True}})
    runs += [stored(name, seed, 1.0 + seed / 50) for name in names for seed in range(9)]
    lines = screen(table_of(runs), width).splitlines()
    assert all(len(line) <= width and "…" not in line for line in lines)
    header = next(line for line in lines if line.split()[:2] == ["strategy", "guardrails"])
    body = lines[lines.index(header) + 2 :]
    shown = "".join(line[: header.index("guardrails")].strip() for line in body)
    assert shown.startswith(names[1] + names[0] + OTHER)  # the order of every table: tracking.strategies


# Through a store and the command


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A strategy that is a quarter faster where it does not fail, which it does on two seeds of six."""
    labels = {BASE: BASE, f"{BASE}-again": BASE, "fragile": BASE}
    lost = [("fragile", seed) for seed in range(2)]
    folder = tmp_path_factory.mktemp("hostile")
    tracking, _ = log_sweep(
        folder, labels, seeds=range(6), rates=(9.0,), speed={"fragile": 0.75}, requests=60, lost=lost
    )
    return tracking


def command(store, *overrides: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "tracking.compare", f"tracking.uri={store.uri}", f"baseline={BASE}"]
    return subprocess.run([*arguments, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_failed_runs_are_read_from_the_store_and_lose(store):
    sweep = RunReader(store.uri, store.experiment).sweeps(["latest"])
    assert sorted(run.seed for run in sweep.failed) == ["0", "1"]
    (table,) = compare(sweep, BASE, [PRIMARY], RULES)
    row = table.find(PRIMARY, "fragile")
    assert (row.test.pairs, row.test.failed) == (6, 2) and row.verdict == "no difference shown"
    assert table.controls == [f"{BASE}-again"]


def test_machines_read_json_and_csv_and_the_exit_code(store):
    done = command(store, "format=json", "fail_if=[worse,broken]")
    assert done.returncode == 1 and done.stderr.strip() == "fail_if: broken"
    (table,) = json.loads(done.stdout)["tables"]
    rows = {(row["strategy"], row["metric"]): row for row in table["comparisons"]}
    assert rows["fragile", PRIMARY]["failed"] == 2 and not rows["fragile", PRIMARY]["exploratory"]
    assert rows["fragile", "ttft_mean_s"]["exploratory"] and table["headline"]


def test_csv_has_a_line_for_each_comparison_and_guardrail():
    table = table_of(pairs(8, other={0: {"failed": True}}))
    lines = list(csv.DictReader(io.StringIO(as_csv([table]))))
    assert [line["what"] for line in lines].count("guardrail") == len(RULES)
    (primary,) = [line for line in lines if line["metric"] == PRIMARY]
    assert (primary["pairs"], primary["failed"], primary["exploratory"]) == ("8", "1", "False")
    assert float(primary["ratio_low"]) < 0.85 and primary["ratio_high"] == "inf"


def test_the_parent_run_says_the_verdict_the_guardrails_and_the_pooled_p99(store):
    reader = RunReader(store.uri, store.experiment)
    sweep = reader.sweeps(["latest"])
    tables = compare(sweep, BASE, [PRIMARY], RULES)
    for run in sweep.runs:  # long enough for a pooled p99
        run.latencies = pd.concat([run.latencies] * 10)
    log_answer(reader.client, sweep.sweep_id, tables)
    data = reader.client.get_run(sweep.sweep_id).data
    assert (
        headline(tables[0]) in data.tags["mlflow.note.content"]
        and "**" not in data.tags["mlflow.note.content"]
    )
    assert data.tags["answer"].split()[0] in tables[0].strategies and "; p99 " in data.tags["answer"]
    assert data.tags["mixed at 9 req/s/fragile/guardrail completion_rate"] == "broken"
    p99 = "mixed at 9 req/s/preempt-evict/e2e_p99_s"
    assert data.metrics[f"{p99}.low"] < data.metrics[p99] < data.metrics[f"{p99}.high"]
    assert f"mixed at 9 req/s/fragile/{PRIMARY}" not in data.metrics  # its failures have no mean
    assert f"mixed at 9 req/s/preempt-evict/{PRIMARY}" in data.metrics


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"format": "xml"}, "format='xml'"),
        ({"fail_if": "slow"}, "fail_if='slow'"),
        ({"primary": "requests"}, "primary='requests'"),
        ({"practical": {"speed": 0.1}}, "practical='speed'"),
        ({"practical": {"default": 2.0}}, "practical.default=2.0"),
    ],
)
def test_bad_settings_name_the_key(settings, message):
    with pytest.raises(ValueError, match=message):
        CompareConfig(baseline=BASE, **settings)
