"""Comparison of strategies: pairing, refusals, guardrails, and the command on a real MLflow store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from synthetic import make_run
from synthetic_store import log_sweep

from ray_jobs.drive.summary import Row, summary_text
from tracking.config import COMPARED, CompareConfig
from tracking.evidence.config import EvidencePlan, GuardrailRule
from tracking.evidence.paired import compare
from tracking.metrics.catalogue import METRICS
from tracking.reporting.headline import headline
from tracking.store.address import short
from tracking.store.reader import RunReader, StoredRun, StoredSweep, cell_titles

ROOT = Path(__file__).parents[2]
BASE, AGAIN, SLOW = "preempt-evict", "preempt-evict-again", "slower"


def stored(strategy: str, seed: int, e2e: float, **changes) -> StoredRun:
    """A run with one metric, as the store would return it."""
    tags = {
        "strategy": strategy, "seed": str(seed), "trace_hash": f"hash-{seed}", "workload": "mixed",
        "rate": "4", "engine": "toy", "engine_version": "1", "hardware": "toy", "pressure": "ok",
        "saturated": "false", "degraded": "false",
    }  # fmt: skip
    params = changes.pop("params", {})
    metrics = {"e2e_mean_s": e2e, "requests": 1000.0} | changes.pop("metrics", {})
    return StoredRun("id", strategy, tags | changes, params, metrics, lambda: make_run(seed=seed))


def sweep_of(runs: list[StoredRun]) -> StoredSweep:
    return StoredSweep("sweep-id", "test", runs, [])


def pairs(count: int, factor: float = 1.2, **changes) -> list[StoredRun]:
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(count):
        level = rng.lognormal(1, 0.4)
        runs += [
            stored(BASE, seed, level * rng.lognormal(0, 0.02), **changes),
            stored("other", seed, factor * level * rng.lognormal(0, 0.02), **changes),
        ]
    return runs


def test_a_slower_strategy_is_worse_and_its_ratio_is_right():
    (table,) = compare(sweep_of(pairs(8)), BASE, ["e2e_mean_s"])
    (row,) = table.comparisons
    assert (row.strategy, row.verdict, row.test.pairs) == ("other", "worse", 8)
    assert row.test.ratio.low < 1.2 < row.test.ratio.high
    assert table.title == "mixed at 4 req/s"


def test_a_table_says_where_a_device_was_never_measured():
    guess = "h100 (measured with llama-3.1-8b on H100-SXM, not with this model and device)"
    for calibration, notes in ((guess, 1), ("h100", 0), (None, 0)):
        tags = {"calibration": calibration} if calibration else {}
        (table,) = compare(sweep_of(pairs(8, **tags)), BASE, ["e2e_mean_s"])
        assert [note for note in table.notes if "guess" in note] == [
            f"simulated times are a guess: {guess}"
        ] * notes
        text = summary_text([Row("l4", "lcf", {"e2e_mean_s": 1.0}, tags)])
        assert (guess in " ".join(text.split())) == bool(notes)


def test_repeats_of_a_seed_are_one_block():
    runs = pairs(8)
    (table,) = compare(sweep_of(runs + [stored(BASE, 0, 5.0)]), BASE, ["e2e_mean_s"])
    assert table.comparisons[0].test.pairs == 8


def test_a_seed_that_lacks_a_strategy_is_left_out_and_said():
    runs = [run for run in pairs(8) if (run.strategy, run.seed) != ("other", "3")]
    (table,) = compare(sweep_of(runs), BASE, ["e2e_mean_s"])
    assert table.comparisons[0].test.pairs == 7
    assert any("other" in note and "seed 3" in note for note in table.notes)


def test_with_five_seeds_a_clear_shift_is_not_called_worse_and_the_note_says_why():
    (table,) = compare(sweep_of(pairs(5)), BASE, ["e2e_mean_s"])
    assert table.comparisons[0].verdict == "too few runs"
    assert any("with 5 seeds: 6 are the fewest" in note for note in table.notes)


def test_holm_counts_the_strategies():
    rng = np.random.default_rng(1)
    third = [stored("third", seed, float(rng.lognormal(1, 0.4))) for seed in range(8)]
    (table,) = compare(sweep_of(pairs(8) + third), BASE, ["e2e_mean_s"])
    other = next(c for c in table.comparisons if c.strategy == "other")
    assert other.p_holm == pytest.approx(2 * other.test.p_value)


@pytest.mark.parametrize(
    "runs, baseline, message",
    [
        (pairs(8), "absent", "baseline='absent': no finished run"),
        (pairs(1), BASE, "a single seed"),
        ([r for r in pairs(8) if r.strategy == BASE], BASE, "nothing to compare"),
        (pairs(4) + pairs(4, trace_hash="another"), BASE, "mixed traces for seed 0"),
        (pairs(8)[:8] + pairs(8, hardware="H100")[8:], BASE, "mixed hardware"),
        ([], BASE, "no finished run"),
    ],
)
def test_what_must_not_be_compared_is_refused_in_one_line(runs, baseline, message):
    with pytest.raises(ValueError, match=message) as error:
        compare(sweep_of(runs), baseline, ["e2e_mean_s"])
    assert "\n" not in str(error.value)


def test_seeds_with_a_late_client_of_the_baseline_stand_apart_and_calm_ones_stay():
    runs = pairs(24)
    for run in runs:
        if int(run.seed) < 8:
            run.tags["pressure"] = "no pressure"
        elif int(run.seed) < 22 and run.strategy == BASE:
            run.tags["saturated"] = "true"
        if 16 <= int(run.seed) < 18 and run.strategy == BASE:
            run.tags["late_client"] = "true"
    plan = EvidencePlan(primary="e2e_mean_s")
    tables = {table.state: table for table in compare(sweep_of(runs), BASE, ["e2e_mean_s"], plan=plan)}
    assert {state: len(table.seeds) for state, table in tables.items()} == {"saturated": 22, "late client": 2}
    full = tables["saturated"]
    assert any("saturated in 12 of 22 seeds" in note for note in full.notes)
    assert headline(full).startswith("Saturated in 12 of 22 seeds: ")
    assert "2 more seeds left out: the client of preempt-evict was late" in headline(full)
    assert full.comparisons[0].verdict == "worse" and full.under_pressure["other"].pairs == 14
    assert tables["late client"].comparisons[0].verdict == "late client"
    assert "say nothing about engines" in headline(tables["late client"])


def test_one_strategy_that_never_preempts_is_still_compared():
    runs = pairs(8)
    for run in runs:
        if run.strategy == "other":
            run.tags["pressure"] = "no pressure"
    assert [table.state for table in compare(sweep_of(runs), BASE, ["e2e_mean_s"])] == ["ok"]


def test_cells_are_told_apart_by_any_setting_but_strategy_seed_and_machinery():
    small = [
        stored(BASE, 0, 1.0, params={"engine.num_blocks": "100", "strategy.name": "a", "run.attempts": "1"})
    ]
    large = [
        stored(BASE, 0, 1.0, params={"engine.num_blocks": "200", "strategy.name": "b", "run.attempts": "2"})
    ]
    titles = cell_titles({run.cell for run in small + large})
    assert sorted(titles.values()) == [
        "mixed at 4 req/s, engine.num_blocks=100",
        "mixed at 4 req/s, engine.num_blocks=200",
    ]


@pytest.mark.parametrize(
    "factor, limit, status",
    [(1.0, 1.1, "held"), (1.2, 1.1, "broken"), (1.1, 1.1, "unsure")],
)
def test_guardrails(factor, limit, status):
    rule = GuardrailRule(metric="e2e_mean_s", max_ratio=limit)
    (table,) = compare(sweep_of(pairs(8, factor)), BASE, ["e2e_mean_s"], [rule])
    assert [check.status for check in table.guardrails] == [status]


def test_a_p99_guardrail_compares_within_blocks_if_there_are_requests_enough():
    rule = GuardrailRule(metric="e2e_p99_s", max_ratio=1.1)
    (table,) = compare(sweep_of(pairs(10)), BASE, ["e2e_mean_s"], [rule])
    (check,) = table.guardrails
    assert check.how == "p99 within 10 blocks of 1000 requests"
    assert (check.ratio.value, check.status) == (1.0, "held")
    (table,) = compare(sweep_of(pairs(8)), BASE, ["e2e_mean_s"], [rule])
    assert table.guardrails[0].status == "not measured"
    assert "needs 1000" in table.guardrails[0].how


def test_a_p99_that_hangs_on_one_block_is_unsure():
    runs = pairs(10)
    for run in runs:
        slow = 3.0 if (run.strategy, run.seed) == ("other", "4") else 1.0
        run.load_result = lambda seed=int(run.seed), slow=slow: make_run(seed=seed, speed=slow)
    rule = GuardrailRule(metric="e2e_p99_s", max_ratio=1.1)
    (table,) = compare(sweep_of(runs), BASE, ["e2e_mean_s"], [rule])
    (check,) = table.guardrails
    assert check.ratio.value > 1.1 and check.status == "unsure"
    assert check.ratio.low < 1.1 < check.ratio.high


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sweep with an A/A control and a strategy that is 10 % slower in every step; one run was lost."""
    folder = tmp_path_factory.mktemp("store")
    labels = {BASE: "preempt-evict", AGAIN: "preempt-evict", SLOW: "preempt-evict"}
    tracking, _ = log_sweep(
        folder, labels, seeds=range(9), speed={SLOW: 1.10}, requests=80, lost=[(SLOW, 8)], rates=(6.0,)
    )
    return tracking


def command(*overrides: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "tracking.compare", *overrides]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_a_policy_against_itself_shows_no_difference(store):
    sweep = RunReader(store.uri, store.experiment).sweep("latest")
    rows = [c for t in compare(sweep, BASE, COMPARED, (), [AGAIN]) for c in t.comparisons]
    assert len(rows) >= len(COMPARED)
    wrong = [c.metric for c in rows if c.verdict in ("better", "worse")]
    assert len(wrong) / len(rows) <= 0.075, wrong


def test_the_slow_strategy_is_found_from_the_store(store):
    sweep = RunReader(store.uri, store.experiment).sweep("latest")
    assert sweep.unfinished == ["slower seed=8 mixed 6 req/s"]
    tables = compare(sweep, BASE, ["tpot_mean_s"], (), [SLOW])
    largest = max(tables, key=lambda table: len(table.seeds))
    assert largest.comparisons[0].verdict == "worse"


def test_the_command_prints_tables_and_guardrails(store):
    done = command(
        f"tracking.uri={store.uri}", f"baseline={BASE}", f"strategies=[{AGAIN},{SLOW}]", "detail=true"
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "against preempt-evict",
        "e2e_mean_s [s] ↓",
        "no difference shown",
        "throughput_tok_s",
        "held",
    ):
        assert text in done.stdout
    assert "failed, counts as the worst result: slower seed=8 mixed 6 req/s" in done.stdout
    assert "Downloading" not in done.stderr


@pytest.mark.parametrize(
    "override, message", [("baseline=nobody", "baseline='nobody'"), ("basline=x", "basline")]
)
def test_bad_input_is_one_line_and_exit_code_2(store, override, message):
    done = command(f"tracking.uri={store.uri}", override)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout


def test_a_cell_without_the_strategy_that_was_asked_for_is_left_out():
    elsewhere = [run for run in pairs(8, workload="azure") if run.strategy == BASE]
    (table,) = compare(sweep_of(pairs(8) + elsewhere), BASE, ["e2e_mean_s"], strategies=["other"])
    assert table.title.startswith("mixed") and table.strategies == ["other"]


def test_a_replay_at_a_share_of_the_capacity_is_named_by_its_rate():
    replay = {
        "workload.arrivals.kind": "replay",
        "workload.arrivals.time_scale": "0.5",
        "workload.load": "95%",
    }
    recorded = replay | {"workload.load": "medium"}
    cells = [stored(BASE, 0, 1.0, params=params).cell for params in (replay, recorded)]
    assert [cell_titles([cell])[cell] for cell in cells] == ["mixed at 4 req/s", "mixed at replay x2"]


def test_what_the_store_does_not_have_is_said_with_what_it_has(store, tmp_path):
    with pytest.raises(ValueError, match="sweep='nothing': not found; newest first: latest, .*synthetic"):
        RunReader(store.uri, store.experiment).sweep("nothing")
    with pytest.raises(ValueError, match="tracking.experiment='none': not in .*; it has .*bidkv"):
        RunReader(store.uri, "none")
    with pytest.raises(ValueError, match="no such file"):
        RunReader(f"sqlite:///{tmp_path}/absent.db", "bidkv")
    assert not (tmp_path / "absent.db").exists()


def test_sweeps_are_found_by_name_and_id_and_joined_without_doubles(store):
    reader = RunReader(store.uri, store.experiment)
    sweep = reader.sweep("synthetic")
    assert reader.sweep(sweep.sweep_id[:8]).sweep_id == sweep.sweep_id
    assert len(reader.sweeps(["synthetic", "latest"]).runs) == len(sweep.runs) == 26


@pytest.mark.parametrize("begins", ["1f0a9c3d", "40051425", "12345e67", "1e5a0000", "1234567e", "00123456"])
def test_what_a_run_is_called_is_text_on_a_command_line(begins):
    run_id = f"{begins}b5".ljust(32, "0")
    name = short(run_id)
    assert run_id.startswith(name) and 8 <= len(name) <= 9
    assert OverridesParser.create().parse_override(f"sweep={name}").value() == name
    assert CompareConfig(sweep=40051425).sweep == ["40051425"]  # as a user may type it


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CompareConfig(baseline="a", metrics=["speed"]), "metrics='speed'"),
        (lambda: GuardrailRule(metric="speed", max_ratio=1.1), "guardrails.rules.metric='speed'"),
        (lambda: GuardrailRule(metric="e2e_p99_s"), "min_ratio, max_ratio"),
    ],
)
def test_bad_settings_name_the_key(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_all_metrics_and_a_single_sweep_name_are_spelled_out():
    config = CompareConfig(baseline="a", sweep="x", metrics="all")
    assert set(config.metrics) == set(METRICS) and config.sweep == ["x"]
