"""Simulates runs that a real engine has done, and compares what came out, run by run.

    python scripts/compare_sim.py FOLDER... [--calibration NAME] [--hardware h100-sxm] [--sync]
                                            [--set KEY=VALUE ...]

A FOLDER is what an MLflow run logged: config.yaml, requests.parquet, steps.parquet, events.jsonl and
run.json. The model shape is the job's `engine.sim.model_shape` (see engine=vllm_shape). Only runs
whose steps the calibration was not fitted to say anything about its predictions; the table marks the others.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean, mean

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import ray_jobs.run  # noqa: E402, F401 (registers the configuration's schema)
from bidkv.adapters.shared.settings import AdapterSettings  # noqa: E402
from ray_jobs.drive.config import BenchConfig  # noqa: E402
from ray_jobs.drive.plan import frozen, load_name  # noqa: E402
from ray_jobs.engines.shared.requests_table import requests_table  # noqa: E402
from ray_jobs.engines.sim.build import build_parts  # noqa: E402
from ray_jobs.engines.sim.simulate import simulate  # noqa: E402
from tracking.cli import CONF  # noqa: E402
from tracking.evidence.baseline import default_baseline  # noqa: E402
from tracking.metrics.catalogue import compute_metrics  # noqa: E402
from tracking.result import RunResult  # noqa: E402

METRICS = ("throughput_tok_s", "e2e_mean_s", "ttft_mean_s", "tpot_mean_s", "preemptions")
EFFECT, E2E_BAR = "e2e_mean_s", 0.10
LIMITS = (
    "block_size", "num_blocks", "max_num_seqs", "max_model_len", "max_num_batched_tokens", "prefix_caching",
    "vocab_size",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--calibration", default="h100-llama-3.1-8b-vllm-0.26")
    parser.add_argument("--hardware", default="h100-sxm")
    parser.add_argument(
        "--set", nargs="*", default=[], help="KEY=VALUE of the stored jobs, such as a trace file's path here"
    )
    parser.add_argument("--sync", action="store_true", help="the real engine scheduled synchronously")
    args = parser.parse_args()
    table = Table("run", "fitted", *METRICS, title="predicted / measured (measured)", title_justify="left")
    groups: dict[str, list[list[float]]] = defaultdict(list)
    runs: dict[tuple[str, int], dict[str, tuple[float, float]]] = defaultdict(
        dict
    )  # mean E2E, measured and predicted
    with tempfile.TemporaryDirectory() as scratch:
        for folder in args.folders:
            real = stored_job(folder, args.set)
            job = simulated_job(real, args)
            measured = compute_metrics(RunResult.load(folder), real.slo)
            predicted = compute_metrics(simulated(job, Path(scratch)), real.slo)
            seen = any(
                Path(name).resolve() == folder.resolve()
                for name in job.engine.sim.calibration.origin["steps"]
            )
            ratios = [predicted[m] / measured[m] if measured[m] else float("nan") for m in METRICS]
            caching = "on" if real.engine.prefix_caching else "off"
            group = f"{real.workload.name} {load_name(real)}, prefix caching {caching}" + (
                ", fitted" if seen else ""
            )
            groups[group].append(ratios)
            runs[group, real.seed][real.strategy.label] = (measured[EFFECT], predicted[EFFECT])
            table.add_row(
                f"{real.strategy.label}, {group}, seed {real.seed}", "yes" if seen else "",
                *(f"{r:.3f} ({measured[m]:.4g})" for r, m in zip(ratios, METRICS, strict=True)),
            )  # fmt: skip
    console = Console(width=190)
    console.print(table)
    for group, rows in groups.items():
        means = ", ".join(
            f"{m} {mean(column) - 1:+.1%}" for m, column in zip(METRICS, zip(*rows, strict=True), strict=True)
        )
        console.print(f"{group}: mean error of {len(rows)} runs: {means}")
        within = mean(abs(row[METRICS.index(EFFECT)] - 1) <= E2E_BAR for row in rows)
        console.print(f"{group}: mean E2E within {E2E_BAR:.0%} in {within:.0%} of the runs")
        for line in effects({seed: found for (of, seed), found in runs.items() if of == group}):
            console.print(f"{group}: {line}")


def effects(seeds: dict[int, dict[str, tuple[float, float]]]) -> list[str]:
    """What policies do to mean E2E, which is what a simulation is for: measured and predicted ratios to the engine's
    own choices, geometric means over the seeds that have both, with the farthest of a single seed."""
    lines = []
    names = list(dict.fromkeys(name for found in seeds.values() for name in found))
    base = default_baseline(names)
    for name in (other for other in names if other != base):
        pairs = [
            [found[name][side] / found[base][side] for side in (0, 1)]
            for found in seeds.values() if name in found and base in found
        ]  # fmt: skip
        if pairs:
            measured, predicted = (geometric_mean(side) for side in zip(*pairs, strict=True))
            farthest = max(abs(predicted / measured - 1) for measured, predicted in pairs)
            lines.append(
                f"effect of {name} on mean E2E: measured {measured:.3f}, predicted {predicted:.3f} "
                f"({predicted / measured - 1:+.1%}; a single seed of {len(pairs)} is off by up to {farthest:.1%})"
            )
    return lines


def stored_job(folder: Path, changes: list[str]) -> BenchConfig:
    stored = OmegaConf.merge(OmegaConf.structured(BenchConfig), OmegaConf.load(folder / "config.yaml"))
    for change in changes:
        key, value = change.split("=", 1)
        if OmegaConf.select(stored, key) is not None:
            OmegaConf.update(stored, key, value)
    return OmegaConf.to_object(stored)


def simulated_job(real: BenchConfig, args: argparse.Namespace) -> BenchConfig:
    overrides = [
        "engine=vllm_sim",
        f"calibration@engine.sim.calibration={args.calibration}",
        f"hardware@engine.sim.hardware={args.hardware}",
        f"engine.sim.async_scheduling={not args.sync}",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        template = OmegaConf.to_object(compose("config", overrides)).engine
    limits = {key: getattr(real.engine, key) for key in LIMITS}
    limits["max_num_batched_tokens"] = limits["max_num_batched_tokens"] or template.max_num_batched_tokens
    sim = replace(template.sim, model_shape=real.engine.sim.model_shape)
    return replace(real, engine=replace(template, **limits, sim=sim))


def simulated(job: BenchConfig, scratch: Path) -> RunResult:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    settings = AdapterSettings(
        strategy=job.strategy.name, admission=job.strategy.admission, victim=job.strategy.victim,
        params=dict(job.strategy.params), seed=job.seed, run_id="simulated",
        events_path=str(folder / "events.jsonl"), steps_path="memory",
    )  # fmt: skip
    parts = build_parts(job.engine, folder)
    outcome = simulate(
        parts, job.engine.sim, frozen(job), settings, job.run.request_timeout_s, job.run.timeout_s
    )
    return RunResult(
        status=outcome.status, requests=requests_table(outcome.logs, outcome.events), events=outcome.events,
        steps=outcome.steps, finished_t=outcome.duration_s,
    )  # fmt: skip


if __name__ == "__main__":
    main()
