"""Synthetic runs in a real MLflow store, written by the driver's own writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from synthetic import STRATEGIES, make_run

from ray_jobs.config import BenchConfig, EngineConfig, StrategyConfig, TrackingConfig
from ray_jobs.plan import plan_blocks
from ray_jobs.workload_config import ComponentConfig, LengthConfig, SourceConfig, WorkloadConfig
from tracking.metrics import compute_metrics, run_flags
from tracking.store import SweepStore


def log_sweep(
    folder: Path,
    labels: Mapping[str, str] | Sequence[str] = tuple(STRATEGIES),
    *,
    seeds: Iterable[int] = range(5),
    rates: Sequence[float] = (6.0,),
    speed: Mapping[str, float] | None = None,
    requests: int = 120,
    name: str = "synthetic",
    lost: Sequence[tuple[str, int]] = (),
) -> tuple[TrackingConfig, str]:
    """Logs a sweep under `folder`; `labels` maps a label to the toy strategy behind it.

    `speed` scales the steps of a label; runs in `lost` (label, seed) fail. Returns how to reach the
    store, and the sweep's run id.
    """
    labels = labels if isinstance(labels, Mapping) else {label: label for label in labels}
    tracking = TrackingConfig(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"), "bidkv")
    jobs = [_job(label, labels[label], seed, rate) for rate in rates for seed in seeds for label in labels]
    store = SweepStore(tracking)
    store.open(name, name, {})
    for index, run in enumerate(planned for block in plan_blocks(jobs) for planned in block):
        run_id = store.start(run, 1)
        label, job = run.job.strategy.label, run.job
        if (label, job.seed) in lost:
            store.fail(run_id, "RuntimeError: engine died")
            continue
        result = make_run(
            labels[label], seed=job.seed, rate=job.workload.rate, requests=requests, repeat=index,
            speed=(speed or {}).get(label, 1.0),
        )  # fmt: skip
        store.finish(run_id, run, result, compute_metrics(result, job.slo), run_flags(result), {})
    store.close("FINISHED")
    return tracking, store.sweep_id


def _job(label: str, toy: str, seed: int, rate: float) -> BenchConfig:
    length = LengthConfig(median=8, max=8)
    workload = WorkloadConfig(
        name="mixed",
        num_requests=4,
        rate=rate,
        source=SourceConfig(components={"chat": ComponentConfig(prompt=length, output=length)}),
    )
    engine = EngineConfig(kind="vllm", model="toy", num_blocks=600)
    return BenchConfig(StrategyConfig(toy, "fcfs", STRATEGIES[toy], label=label), workload, engine, seed=seed)
