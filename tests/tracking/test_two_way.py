"""A setting's levels beside the policies: effects that were put in are found, and what has no pairs is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic import make_run
from synthetic_store import log_sweep

from tracking.evidence.config import EvidencePlan
from tracking.evidence.two_way import two_way
from tracking.reporting.two_way import two_way_screen
from tracking.store.reader import StoredRun, StoredSweep

ROOT = Path(__file__).parents[2]
LEVEL, POLICY, TOGETHER = 0.8, 0.9, 1.1  # of the second level, of the policy, and more where both are


def run_of(router: str, strategy: str, seed: int, value: float, trace: str = "", **params: str) -> StoredRun:
    tags = {
        "strategy": strategy, "seed": str(seed), "trace_hash": f"hash-{seed}{trace}", "observed": f"{seed}{trace}",
        "workload": "mixed", "rate": "4", "engine": "toy", "engine_version": "1", "hardware": "toy", "pressure": "ok",
        "saturated": "false", "degraded": "false",
    }  # fmt: skip
    params = {"engine.router.name": router} | params
    metrics = {"e2e_mean_s": value, "e2e_rmst_s": value, "requests": 1000.0}
    return StoredRun("id", strategy, tags, params, metrics, lambda: make_run(seed=seed))


def planted(seeds: int = 12, noise: float = 0.01, **changes) -> StoredSweep:
    """Both levels and policies on the same seeds; seeds differ by far more than anything else."""
    rng, runs = np.random.default_rng(1), []
    for seed in range(seeds):
        hard = rng.lognormal(1, 0.5)
        for router in ("round-robin", "sticky"):
            for strategy in ("stock", "backfill"):
                away, ours = router == "sticky", strategy == "backfill"
                value = hard * LEVEL**away * POLICY**ours * TOGETHER ** (away and ours)
                own = {"engine.router.params.match": "0.1"} if away else {}
                own |= {key: text for key, text in changes.get(router, {}).items()}
                runs.append(run_of(router, strategy, seed, value * rng.lognormal(0, noise), **own))
    return StoredSweep("sweep-id", "test", runs, [])


def asked(sweep: StoredSweep, setting: str = "engine.router.name"):
    return two_way(sweep, setting, "stock", ["backfill"], EvidencePlan())


def test_what_was_put_in_is_found_and_the_intervals_hold_it():
    (table,) = asked(planted())
    first, second = table.rows
    assert (first.level, first.baseline, first.interactions) == ("round-robin", None, {})
    wanted = {
        POLICY: first.policies["backfill"],
        LEVEL: second.baseline,
        POLICY * TOGETHER: second.policies["backfill"],
        TOGETHER: second.interactions["backfill"],
    }
    for truth, test in wanted.items():
        assert test.pairs == 12
        assert test.ratio.low < truth < test.ratio.high
        assert test.ratio.high / test.ratio.low < 1.05  # seeds differ by a factor of five: pairs do not


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    held, rng = 0, np.random.default_rng(7)
    for _ in range(200):
        runs = [
            run_of(router, strategy, seed, float(hard * rng.lognormal(0, 0.05)))
            for seed, hard in enumerate(rng.lognormal(1, 0.5, 8))
            for router in ("a", "b")
            for strategy in ("stock", "backfill")
        ]
        ratio = asked(StoredSweep("id", "test", runs, []))[0].rows[1].interactions["backfill"].ratio
        held += ratio.low < 1.0 < ratio.high
    assert held >= 184  # 95 % of 200 is 190; below 184 one time in a hundred


def test_a_setting_in_which_nothing_differs_is_refused_by_name():
    with pytest.raises(
        ValueError, match="across='engine.num_blocks': no two .* differ in engine.router.name"
    ):
        asked(planted(), "engine.num_blocks")


def test_cells_that_differ_in_more_are_not_put_together():
    mixed = planted(sticky={"engine.num_blocks": "600"}, **{"round-robin": {"engine.num_blocks": "1200"}})
    with pytest.raises(ValueError, match="across='engine.router.name': no two"):
        asked(mixed)


def fleet(*settings: dict[str, str], broken: tuple[str, ...] = ()) -> StoredSweep:
    """Two policies on four seeds behind each of the routers; of `broken` ones the policy's first two runs failed."""
    runs = []
    for seed in range(4):
        for number, params in enumerate(settings):
            for strategy in ("stock", "backfill"):
                name = params["engine.router.name"]
                run = run_of(name, strategy, seed, 1.0 + 0.1 * number + 0.01 * seed, **params)
                if strategy == "backfill" and name in broken and seed < 2:
                    run.metrics["completion_rate"] = 0.0
                runs.append(run)
    return StoredSweep("sweep-id", "test", runs, [])


def router(name: str, **more: str) -> dict[str, str]:
    return {"engine.router.name": name} | {
        f"engine.router.{key}".replace("__", "."): text for key, text in more.items()
    }


def test_a_choice_with_other_parameters_is_another_level() -> None:
    """Never a repeat of the first."""
    one, other = router("affinity", params__imbalance="inf"), router("affinity", params__imbalance="10")
    (table,) = asked(fleet(router("turns"), one, other))
    assert [row.level for row in table.rows] == [
        "turns", "affinity, params.imbalance=inf", "affinity, params.imbalance=10",
    ]  # fmt: skip
    assert [row.policies["backfill"].pairs for row in table.rows] == [4, 4, 4]


def test_what_varies_beside_a_choice_makes_another_table() -> None:
    kinds = [router(name, stale_s=stale) for name in ("turns", "least") for stale in ("0", "30")]
    tables = asked(fleet(*kinds))
    assert len(tables) == 2 and all(len(table.rows) == 2 for table in tables)


def test_a_policy_that_failed_at_both_levels_says_nothing_of_their_difference() -> None:
    (table,) = asked(fleet(router("a"), router("b"), broken=("a", "b")))
    second = table.rows[1]
    assert second.policies["backfill"].pairs == 4 and second.policies["backfill"].failed == 2
    assert second.interactions["backfill"].pairs == 2 < table.seeds
    shown = io.StringIO()
    Console(file=shown, width=80).print(two_way_screen(table))
    assert "2 of 4 pairs" in shown.getvalue()


def test_levels_that_met_other_traces_are_refused():
    runs = [
        run_of(router, strategy, seed, 1.0, trace=router)
        for seed in range(8)
        for router in ("a", "b")
        for strategy in ("stock", "backfill")
    ]
    with pytest.raises(ValueError, match="seed 0 has another trace at another level"):
        asked(StoredSweep("id", "test", runs, []))


def test_the_command_refuses_what_would_show_nothing(tmp_path):
    tracking, _ = log_sweep(tmp_path, ("preempt-evict", "lcf"), seeds=range(2), rates=(6.0, 8.0), requests=40)
    command = [sys.executable, "-m", "tracking.compare", f"tracking.uri={tracking.uri}", "classes=false"]

    def said(*more: str) -> tuple[int, str]:
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stderr + done.stdout

    code, text = said("across=engine.router.name")
    assert code == 2 and text.startswith("error: across='engine.router.name': no two") and "rate" in text
    assert said("across=engine.router.name", "format=csv")[0] == 2
    code, text = said("format=json")
    assert code == 0 and json.loads(text)["across"] == []
