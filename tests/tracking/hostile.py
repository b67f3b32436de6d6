"""Runs as a store would return them, for stores that would mislead a comparison."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from rich.console import Console

from tracking.evidence.classes import who_pays
from tracking.evidence.config import GuardrailRule
from tracking.evidence.paired import Table, compare
from tracking.reporting.rows import first_screen
from tracking.result import RunResult
from tracking.store.reader import StoredRun, StoredSweep

BASE, OTHER, PRIMARY = "preempt-evict", "other", "e2e_rmst_s"
RULES = [
    GuardrailRule(metric="completion_rate", min_ratio=0.99),
    GuardrailRule(metric="throughput_tok_s", min_ratio=0.95),
    GuardrailRule(metric="e2e_p99_s", max_ratio=1.1),
]


def stored(strategy: str, seed: int, e2e: float, **changes) -> StoredRun:
    """A run as the store would return it; `changes` are tags, but for `metrics`, `params` and `requests`."""
    metrics = {PRIMARY: e2e, "requests": 2000.0, "completion_rate": 1.0, "throughput_tok_s": 900.0}
    metrics |= {"e2e_p99_s": 4 * e2e} | changes.pop("metrics", {})
    params = {"strategy.name": strategy, "run.request_timeout_s": "60"} | changes.pop("params", {})
    table = changes.pop("requests", None)
    failed = changes.pop("failed", False)
    tags = {
        "strategy": strategy, "seed": str(seed), "trace_hash": f"hash-{seed}", "workload": "mixed", "rate": "4",
        "engine": "toy", "engine_version": "1", "hardware": "toy", "pressure": "ok", "bidkv.sweep": "sweep",
    }  # fmt: skip
    if failed:
        metrics = {}
        tags = {
            k: v for k, v in tags.items() if k not in ("engine", "engine_version", "hardware", "pressure")
        }

    def load() -> RunResult:
        return RunResult("finished", requests_of(e2e) if table is None else table)

    return StoredRun(f"{strategy}-{seed}", strategy, tags | changes, params, metrics, load, failed=failed)


def requests_of(e2e: float, count: int = 200, timeouts: float = 0.0, factors: dict | None = None):
    """A request table with E2E around a level; `factors` scale the classes, the first requests time out."""
    kinds = np.resize(["chat", "qa"], count)
    took = e2e * np.linspace(0.5, 1.5, count) * [(factors or {}).get(kind, 1.0) for kind in kinds]
    lost = np.arange(count) < timeouts * count
    return pd.DataFrame({
        "kind": kinds, "status": np.where(lost, "timeout", "ok"), "warmup": False, "scheduled_t": 0.0,
        "first_token_t": np.where(lost, np.nan, took / 4), "finish_t": np.where(lost, np.nan, took),
        "output_tokens": 10, "deadline_s": np.where(kinds == "qa", 2.0, 1.2),
    })  # fmt: skip


def sweep_of(runs: list[StoredRun]) -> StoredSweep:
    finished = [run for run in runs if not run.failed]
    failed = [run for run in runs if run.failed]
    return StoredSweep("sweep", "hostile", finished, [run.name for run in failed], failed)


def pairs(count: int = 8, factor: float = 0.8, noise: float = 0.01, other: dict | None = None, **changes):
    """A baseline and a strategy on `count` seeds; `other` maps seeds of the strategy to changes of its run."""
    rng, runs = np.random.default_rng(1), []
    for seed in range(count):
        level = rng.lognormal(0, 0.3)
        mine = changes | (other or {}).get(seed, {})
        runs.append(stored(BASE, seed, level, **changes))
        runs.append(stored(OTHER, seed, factor * level * rng.lognormal(0, noise), **mine))
    return runs


def table_of(runs: list[StoredRun], **options) -> Table:
    (table,) = compare(sweep_of(runs), BASE, [PRIMARY, "e2e_p99_s"], RULES, **options)
    return table


def screen(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(first_screen(table, who_pays(table)))
    return console.file.getvalue()


def statuses(table: Table) -> dict[str, str]:
    return {check.metric: check.status for check in table.guardrails}
