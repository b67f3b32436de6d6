"""A second attack: stores that are in order, a line each, and would still make a false winner or hide a loser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hostile import BASE, OTHER, PRIMARY, pairs, requests_of, screen, statuses, stored, sweep_of, table_of
from scipy.signal import lfilter

from tracking.evidence.classes import LARGEST, who_pays
from tracking.evidence.config import EvidencePlan, GuardrailRule
from tracking.evidence.guardrails import GuardrailCheck
from tracking.evidence.neighbours import chained, groups
from tracking.evidence.paired import compare
from tracking.reporting.headline import headline, overall
from tracking.reporting.in_short import in_short
from tracking.reporting.rows import under_pressure
from tracking.result import RunResult
from tracking.store.reader import RunReader, StoredRun

LARGE_RULES = [
    GuardrailRule(metric="e2e_p99_s", max_ratio=1.1),
    GuardrailRule(metric="e2e_largest_s", max_ratio=1.1),
]


def row_of(runs: list[StoredRun]):
    table = table_of(runs)
    return table, table.find(PRIMARY, OTHER)


# Windows of a recording


def windows(runs: list[StoredRun], apart: int, size: int = 2000) -> list[StoredRun]:
    for run in runs:
        begin = int(run.seed) * (size + apart)
        run.tags["rows"] = f"{begin}:{begin + size}/99999"
    return runs


def test_windows_that_are_neighbours_count_together():
    weather = {seed: {"metrics": {PRIMARY: 0.8 + 0.1 * (seed // 3 % 2)}} for seed in range(9)}
    alone = table_of(windows(pairs(9, other=weather), apart=2000)).find(PRIMARY, OTHER)
    table, row = row_of(windows(pairs(9, other=weather), apart=170))
    assert (len(alone.test.scores), len(row.test.scores), row.test.pairs) == (9, 4, 9)
    assert row.test.effect.value == pytest.approx(alone.test.effect.value, abs=0.1)
    assert row.test.ratio.high - row.test.ratio.low > alone.test.ratio.high - alone.test.ratio.low
    assert any("9 windows of one recording" in note and "of 4 blocks" in note for note in table.notes)


def test_neighbours_are_found_in_the_order_of_the_file():
    assert chained([(0, 10), (100, 110), (15, 25), (40, 50)]) == [0, 2, 0, 1]
    assert chained([(0, 10), (10, 20), (20, 30)]) == [0, 0, 0]
    blocks = table_of(windows(pairs(6), apart=2000)).blocks
    assert groups(blocks, list(blocks)) is None


def test_windows_of_a_store_that_does_not_say_where_they_were_are_doubted():
    table = table_of(pairs(8, params={"workload.source.pick": "window", "workload.num_requests": "2000"}))
    assert any("they may overlap" in note for note in table.notes)
    assert "(windows that may overlap)" in headline(table)


def test_windows_that_share_requests_are_one():
    assert chained([(0, 10), (3, 13), (6, 16), (20, 30), (90, 100)]) == [0, 0, 0, 0, 1]
    assert chained([(0, 10), (3, 13), (10, 20), (20, 30), (30, 40), (45, 55)]) == [0, 0, 0, 0, 1, 1]
    table, row = row_of(windows(pairs(12), apart=-1940))
    assert len(row.test.scores) == 1 and row.verdict == "no difference shown"


# Calm seeds


def test_a_strategy_that_slows_what_is_calm_is_not_better():
    runs = []
    for seed in range(14):
        calm = seed < 7
        changes = {"pressure": "no pressure" if calm else "ok"}
        runs.append(stored(BASE, seed, 1.0 + seed / 50, **changes))
        noise = 1 + 0.002 * (seed % 3)
        runs.append(stored(OTHER, seed, (1.0 + seed / 50) * noise * (1.1 if calm else 0.95), **changes))
    table, row = row_of(runs)
    assert row.verdict != "better" and row.test.pairs == 14 and table.state == "ok"
    assert table.under_pressure[OTHER].ratio.value == pytest.approx(0.952, abs=0.005)
    assert "7 of 14 seeds, no verdict): other" in under_pressure(table) and under_pressure(table)[
        :60
    ] in screen(table, 200)


def test_waiting_for_memory_is_pressure_without_a_preemption():
    calm = pairs(8, pressure="no pressure")
    assert row_of(calm)[1].verdict == "no pressure"
    for run in calm:
        run.metrics["hol_blocked_s"] = 3.0
    assert row_of(calm)[1].verdict == "better"


# Baselines and strategies without results


def failing(name: str, seeds: range, factor: float = 1.0) -> list[StoredRun]:
    return [
        stored(name, int(run.seed), 1.0, failed=True)
        if run.strategy == name and int(run.seed) in seeds
        else run
        for run in pairs(8, factor=factor)
    ]


def test_a_baseline_that_crashed_makes_no_winner():
    for crashed in (range(6), range(7)):
        table, row = row_of(failing(BASE, crashed))
        assert row.verdict == "no baseline" and headline(table).startswith("no verdict: other (no baseline)")
        assert f"preempt-evict has no result in {len(crashed)}" in headline(table)


def test_a_baseline_that_failed_once_hides_no_gain_and_it_is_said():
    table, row = row_of(failing(BASE, range(1), factor=0.8))
    assert (row.verdict, row.test.pairs, row.test.failed) == ("better", 7, 0)
    assert "(7 of 8 pairs (preempt-evict has no result in 1))" in headline(table)


def test_seeds_in_which_the_strategys_own_client_was_late_are_its_failures():
    bad = {seed: {"late_client": "true"} for seed in range(4)}
    table, row = row_of(pairs(11, factor=0.9, other=bad))
    assert (row.test.pairs, row.test.failed) == (11, 4) and row.verdict == "no difference shown"
    assert "late client or fewer requests measured in 4, counted as failed" in headline(table)


def test_a_baseline_that_never_ran_or_was_late_or_measured_less_has_no_result():
    def changed(change):
        runs = [run for run in pairs(12) if run.strategy == OTHER or int(run.seed) >= 5 or change(run)]
        return compare(sweep_of(runs), BASE, [PRIMARY])[0]

    for change in (
        lambda run: False,
        lambda run: run.tags.update(late_client="true") or True,
        lambda run: run.metrics.update(requests=1000.0) or True,
        lambda run: run.metrics.update({PRIMARY: 0.0}) or True,
    ):
        assert changed(change).find(PRIMARY, OTHER).verdict == "no baseline"


def test_latencies_of_zero_are_no_gain():
    table, row = row_of(pairs(8, other={seed: {"metrics": {PRIMARY: -0.0}} for seed in range(3)}))
    assert (row.test.pairs, row.test.failed) == (8, 3) and row.verdict == "no difference shown"
    table, row = row_of(pairs(8, other={seed: {"metrics": {PRIMARY: 0.0}} for seed in range(8)}))
    assert row is None and headline(table).endswith("no verdict")


def test_where_a_run_failed_nothing_is_equivalent_and_the_headline_says_it():
    lost = {seed: {"failed": True} for seed in range(2)}
    table, row = row_of(pairs(12, factor=1.0, noise=0.0, other=lost))
    assert row.verdict == "no difference shown" and "other: failed in 2 of 12" in headline(table)
    (table,) = compare(sweep_of(pairs(12, other=lost)), BASE, [PRIMARY])  # without guardrails
    assert "(failed in 2 of 12)" in headline(table)


def test_a_mean_that_says_the_opposite_is_said_with_the_verdict():
    rng, runs = np.random.default_rng(0), []
    for seed in range(14):
        level, factor = (100.0, 1.05) if seed == 0 else (1.0, 0.93 * rng.lognormal(0, 0.003))
        runs += [stored(BASE, seed, level), stored(OTHER, seed, level * factor)]
    table, row = row_of(runs)
    assert row.verdict == "better" and "yet over all seeds together +3." in headline(table)


def test_a_p99_over_fewer_requests_keeps_no_limit():
    few = {seed: {"metrics": {"requests": 1000.0}} for seed in range(8)}
    assert statuses(table_of(pairs(8, other=few)))["e2e_p99_s"] == "broken"


def test_a_run_without_the_primary_metric_has_failed():
    runs = pairs(11, factor=0.9)
    for run in runs:
        if run.strategy == OTHER and int(run.seed) < 4:
            run.metrics[PRIMARY] = np.nan
    row = row_of(runs)[1]
    assert (row.test.pairs, row.test.failed) == (11, 4) and row.verdict != "better"
    assert row.caveats == ("failed in 4 of 11",)


def test_half_of_the_requests_under_one_trace_is_no_result():
    runs = pairs(8, other={seed: {"metrics": {"requests": 1000.0}} for seed in range(8)})
    table, row = row_of(runs)
    assert (
        row.test.failed == 8 and row.verdict == "worse" and "fewer requests measured in 8" in headline(table)
    )


def test_runs_that_never_happened_are_counted_in_the_headline():
    runs = [run for run in pairs(11) if run.strategy == BASE or int(run.seed) >= 4]
    table, row = row_of(runs)
    assert row.verdict == "better" and "(7 of 11 pairs (not run in 4))" in headline(table)


def test_a_missing_p99_stands_beside_better():
    runs = pairs(8)
    for run in runs:
        del run.metrics["e2e_p99_s"]
        run.load_result = lambda: RunResult("finished", requests_of(1.0, count=50))
    table = table_of(runs)
    assert statuses(table)["e2e_p99_s"] == "not measured"
    assert "better, but" in screen(table, 100) and "p99 E2E not measured" in headline(table)


# "Better" in one breath with what was not alike


@pytest.mark.parametrize(
    ("base", "other", "words"),
    [
        ({}, {"attempt": "3"}, "8 of 8 runs crashed before they went well"),
        ({"host": "a"}, {"host": "b"}, "another host than the baseline's"),
        ({"bidkv.sweep": "one"}, {"bidkv.sweep": "two"}, "another sweep than the baseline's"),
        ({"git_commit": "a"}, {"git_commit": "b"}, "another commit than the baseline's"),
        ({}, {"degraded": "true"}, "degraded in 8 of 8 runs"),
        ({"degraded": "true"}, {}, "the baseline degraded in 8 of 8"),
    ],
)
def test_what_was_not_alike_is_said_with_the_verdict(base, other, words):
    runs = pairs(8)
    for run in runs:
        run.tags |= base if run.strategy == BASE else other
    table, row = row_of(runs)
    assert words in headline(table) and words in row.caveats
    assert row.verdict == ("degraded" if "degraded" in words else "better")


def test_a_crash_is_not_forgotten_when_the_sweep_is_run_again():
    """The attempts of the second command begin at 1 again; two sweeps that are read together likewise."""

    def child(sweep: str, status: str) -> SimpleNamespace:
        tags = {"bidkv.config_hash": "same", "strategy": OTHER, "seed": "0", "attempt": "1"}
        info = SimpleNamespace(run_id=sweep + status, run_name=OTHER, status=status, artifact_uri="/nowhere")
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, params={}, metrics={}))

    store = {
        "again": [child("again", "FINISHED"), child("again", "FAILED")],
        "later": [child("later", "FAILED")],
    }
    reader = object.__new__(RunReader)
    reader._search = lambda query: next(runs for name, runs in store.items() if name in query)
    reader.sweep = lambda name: reader._sweep(
        SimpleNamespace(info=SimpleNamespace(run_id=name, run_name=name))
    )
    (run,) = reader.sweeps(["again"]).runs
    assert run.crashes == 1
    merged = reader.sweeps(["again", "later"])
    assert merged.runs[0].crashes == 2 and not merged.failed
    runs = pairs(8)
    runs[1].crashes = 1
    assert "1 of 8 runs crashed before they went well" in headline(table_of(runs))


def test_two_commits_under_one_label_are_said_with_the_verdict():
    runs = pairs(8)
    for run in runs:
        run.tags["git_commit"] = "new" if int(run.seed) > 3 else "old"
    assert "runs of several commits" in headline(table_of(runs))
    table = table_of(pairs(8, git_commit="abc+dirty"))
    assert any("changes that were not committed" in note for note in table.notes)


# Overload


def test_overload_is_the_baselines_and_the_first_that_is_said():
    slo = {"metrics": {"slo_attainment": 0.4}}
    runs = pairs(8, saturated="true", other={seed: {"saturated": "false"} for seed in range(8)}, **slo)
    (table,) = compare(sweep_of(runs), BASE, [PRIMARY, "slo_attainment"])
    assert table.state == "saturated" and headline(table).startswith("Saturated in 8 of 8 seeds: ")
    assert "within the SLO: preempt-evict 40%" in headline(table)
    runs = pairs(8, other={seed: {"saturated": "true"} for seed in range(8)})
    table = table_of(runs)
    assert table.state == "ok" and any("its queue grew to the end in 8 seeds" in note for note in table.notes)


@pytest.mark.parametrize(("capacity", "state"), [("3.6", "saturated"), ("4.2", "ok")])
def test_a_known_capacity_decides(capacity, state):
    assert table_of(pairs(8, params={"workload.capacity": capacity})).state == state


# Simulated beyond what was fitted


def test_a_cell_whose_steps_are_larger_than_any_fitted_says_so():
    origin, steps = (
        "engine.sim.calibration.origin.reach.",
        {"step_decode_reqs_max": 256.0, "step_context_tokens_max": 9e4},
    )
    params = {
        "engine.sim.calibration.fitted": "True",
        f"{origin}prefill_tokens": "2048",
        f"{origin}prefill_context": "0",
    }
    known = params | {f"{origin}decode_reqs": "32", f"{origin}context_tokens": "100000"}
    notes = table_of(pairs(8, params=known, metrics=steps)).notes
    assert (
        "simulated beyond what was fitted in 16 of 16 runs: up to 256 requests decoding in a step, fitted to 32"
        in notes
    )
    assert not any("tokens of context" in note for note in notes)
    assert any("is not known" in note for note in table_of(pairs(8, params=params)).notes)


# The largest pay


def with_large(factor: float, large: float) -> list[StoredRun]:
    """Every twentieth request has ten times the tokens; under the strategy those take `large` times as long."""
    runs = pairs(8, factor=factor)
    for run in runs:
        level = run.metrics[PRIMARY]

        def load(level=level, other=run.strategy == OTHER) -> RunResult:
            table = requests_of(level, count=400)
            biggest = np.arange(400) % 20 == 0
            table["prompt_tokens"] = np.where(biggest, 1000, 100)
            table["true_output_tokens"] = 10
            if other:
                table.loc[biggest, ["first_token_t", "finish_t"]] *= large / factor
            return RunResult("finished", table)

        run.load_result = load
    return runs


def test_who_pays_has_a_row_for_the_largest_whatever_their_class_and_a_guardrail():
    (table,) = compare(sweep_of(with_large(0.8, 1.4)), BASE, [PRIMARY], LARGE_RULES)
    paid = {result.kind: result for result in who_pays(table)}
    assert list(paid) == ["chat", "qa", LARGEST] and paid[LARGEST].ratio.value == pytest.approx(1.4, rel=0.02)
    assert statuses(table) == {"e2e_p99_s": "held", "e2e_largest_s": "broken"}
    assert "breaks E2E of largest 5 % (1.40×)" in headline(table) and LARGEST in screen(table, 100)


def test_tail_safe_is_said_of_what_keeps_the_largest_and_the_p99():
    (table,) = compare(sweep_of(with_large(0.8, 1.0)), BASE, [PRIMARY], LARGE_RULES)
    assert headline(table).endswith("guardrails held, tail-safe")
    for rules in (LARGE_RULES[:1], LARGE_RULES[1:]):
        (table,) = compare(sweep_of(with_large(0.8, 1.0)), BASE, [PRIMARY], rules)
        assert headline(table).endswith("guardrails held")
    tables = compare(sweep_of([*pairs(8), *pairs(8, rate="5")]), BASE, [PRIMARY])
    assert "better in 2 of 2 loads, no guardrails" in overall(tables)


# p99 of short runs


def tails(ratio: float, blocks: int, requests: int, rng: np.random.Generator) -> list[StoredRun]:
    """Runs whose requests wait in bursts, in a block the same under both, and differ by 30 % each."""
    runs = []
    for seed in range(blocks):
        wait = lfilter([np.sqrt(1 - 0.95**2)], [1, -0.95], rng.standard_normal(requests))
        shared = np.exp(0.8 * wait + 0.4 * rng.standard_normal(requests))
        for name, factor in ((BASE, 1.0), (OTHER, ratio)):
            took = factor * shared * np.exp(0.2 * rng.standard_normal(requests))
            table = requests_of(1.0, count=requests).assign(finish_t=took, first_token_t=took / 4)
            run = stored(
                name, seed, float(took.mean()), requests=table, metrics={"requests": float(requests)}
            )
            del run.metrics["e2e_p99_s"]
            runs.append(run)
    return runs


def test_a_p99_guardrail_holds_what_is_equal_and_breaks_what_is_not():
    rng = np.random.default_rng(8)
    rule = [GuardrailRule(metric="e2e_p99_s", max_ratio=1.1)]
    found = {1.0: [], 1.25: []}
    for ratio, states in found.items():
        for _ in range(6):
            (table,) = compare(sweep_of(tails(ratio, 12, 1000, rng)), BASE, [PRIMARY], rule)
            states.append(table.guardrails[0].status)
    assert found[1.0].count("held") >= 5 and found[1.25].count("broken") >= 4
    assert "broken" not in found[1.0] and "held" not in found[1.25]
    (table,) = compare(sweep_of(tails(1.0, 6, 260, rng)), BASE, [PRIMARY], rule)
    assert table.guardrails[0].status != "broken"
    assert table.guardrails[0].status == "held" or "requests a run would tell" in table.guardrails[0].how


def test_the_plan_decides_what_is_primary_for_what_is_owed():
    runs = pairs(8, metrics={"e2e_mean_s": 1.0})
    for run in runs:
        if run.strategy == OTHER and run.seed == "0":
            del run.metrics["e2e_mean_s"]
    (table,) = compare(sweep_of(runs), BASE, ["e2e_mean_s"], plan=EvidencePlan(primary="e2e_mean_s"))
    assert table.find("e2e_mean_s", OTHER).test.failed == 1


def talks(**changes):
    """Pairs whose runs have sessions: `other` is slower in E2E and faster in whole sessions."""
    runs = pairs(8, factor=1.3)
    for run in runs:
        seconds = 100.0 * (0.8 if run.strategy == OTHER else 1.0) * (1 + 0.01 * (int(run.seed) % 3))
        run.metrics.update(
            {"sessions": 40.0, "session_mean_s": seconds, "sessions_completed": 1.0, **changes}
        )
        run.tags["pressure"] = "no pressure"
    return runs


def test_where_all_runs_have_sessions_the_time_of_a_whole_one_is_primary():
    rule = GuardrailRule(metric="sessions_completed", min_ratio=0.99)
    metrics = ["e2e_rmst_s", "session_mean_s"]
    (table,) = compare(sweep_of(talks(reprefill_tax_share=0.3)), BASE, metrics, [rule])
    assert (table.state, table.primary) == (
        "ok",
        "session_mean_s",
    )  # under pressure, though nobody was preempted
    assert table.find("session_mean_s", OTHER).verdict == "better"
    assert table.find("e2e_rmst_s", OTHER).exploratory
    assert [check.status for check in table.guardrails] == ["held"]
    (calm,) = compare(sweep_of(talks(reprefill_tax_share=0.02)), BASE, metrics)
    assert calm.state == "no pressure"
    (asked,) = compare(
        sweep_of(talks(reprefill_tax_share=0.3)), BASE, metrics, plan=EvidencePlan("e2e_rmst_s")
    )
    assert asked.primary == "e2e_rmst_s" and asked.find("e2e_rmst_s", OTHER).verdict == "worse"


def test_rules_of_sessions_are_asked_only_where_there_are_any():
    rule = GuardrailRule(metric="sessions_completed", min_ratio=0.99)
    (table,) = compare(sweep_of(pairs(8)), BASE, ["e2e_rmst_s"], [rule])
    assert table.primary == "e2e_rmst_s" and not table.guardrails
    mixed = talks(reprefill_tax_share=0.3)
    del mixed[0].metrics["sessions"]
    (table,) = compare(sweep_of(mixed), BASE, ["e2e_rmst_s"], [rule])
    assert table.primary == "e2e_rmst_s" and not table.guardrails


def guarded(load: str, **states: str):
    """A table in which each strategy is better, `fast` most; every guardrail of a strategy has the state it is given."""
    runs = [stored(BASE, seed, 10 + seed) for seed in range(8)]
    factors = {"calm": 0.95, "plain": 0.9, "fast": 0.7, "costly": 0.6}
    for name in states:
        runs += [stored(name, seed, factors[name] * (10 + seed + 0.01 * (seed % 2))) for seed in range(8)]
    table = table_of(runs)
    table.title = load
    metrics = {"calm": ("e2e_p99_s", "e2e_largest_s")}
    table.guardrails += [
        GuardrailCheck(metric, name, "<= 1.1x", None, state, "")
        for name, state in states.items()
        for metric in metrics.get(name, ("e2e_p99_s",))
    ]
    return table


def test_a_winner_whose_tail_is_safe_is_named_before_a_faster_one_of_which_less_is_known():
    table = guarded("a", fast="unsure", plain="held", calm="held", costly="broken")
    order = [headline(table).index(name) for name in ("calm:", "plain ", "fast ", "costly ")]
    assert order == sorted(order) and "tail-safe" in headline(table).partition(";")[0]
    assert "better, but not shown to keep its guardrails: fast" in headline(table)
    assert in_short([table]).startswith("calm 0.95, better;")
    both = [table, guarded("b", fast="unsure", plain="held", calm="held")]
    assert overall(both).startswith("calm: better in 2 of 2 loads, guardrails held")
    assert in_short(both).startswith("calm 0.95, better in 2 of 2;")
    doubtful = guarded("a", fast="unsure")
    assert ", but p99 E2E unsure" in headline(doubtful) and in_short([doubtful]).startswith(
        "fast 0.70, better, but;"
    )
