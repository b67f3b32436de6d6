"""Synthetic runs in a real MLflow store, written by the driver's own writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from synthetic import STRATEGIES, make_run

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import plan_blocks
from ray_jobs.drive.recording import environment_tags, now_ms, saved_files
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import StrategyConfig
from ray_jobs.workload.config import SourceConfig, WorkloadConfig
from ray_jobs.workload.length_config import LengthConfig
from ray_jobs.workload.source_config import ComponentConfig
from tracking.metrics.catalogue import compute_metrics, run_flags
from tracking.metrics.ideal import IdealTimes
from tracking.store.config import TrackingConfig
from tracking.store.record import Record
from tracking.store.spool import Spool
from tracking.store.upload import upload_waiting
from tracking.store.writer import SweepStore


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

    `speed` scales the steps of a label and makes it a strategy of its own; runs in `lost` (label, seed)
    fail. Returns how to reach the store, and the sweep's run id.
    """
    labels = labels if isinstance(labels, Mapping) else {label: label for label in labels}
    tracking = TrackingConfig(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"), "bidkv")
    names = {label: label if label in (speed or {}) else toy for label, toy in labels.items()}
    jobs = [
        _job(label, names[label], labels[label], seed, rate)
        for rate in rates
        for seed in seeds
        for label in labels
    ]
    store = SweepStore(tracking)
    store.open(name, name, {})
    spool = Spool(folder / "spool", store.sweep_id)
    spool.open(tracking)
    ideals: dict[int, IdealTimes] = {}
    for index, run in enumerate(planned for block in plan_blocks(jobs) for planned in block):
        label, job = run.job.strategy.label, run.job
        facts = run.facts(1, "unknown")
        if (label, job.seed) in lost:
            tags = {"error": "RuntimeError: engine died"}
            spool.put(Record(store.sweep_id, "FAILED", now_ms(), now_ms(), facts, tags))
            continue
        result = make_run(
            labels[label], seed=job.seed, rate=job.workload.rate, requests=requests, repeat=index,
            speed=(speed or {}).get(label, 1.0),
        )  # fmt: skip
        result.request_timeout_s = job.run.request_timeout_s
        ideal = ideals.setdefault(run.block, IdealTimes.of(result))
        spool.put(
            Record(
                store.sweep_id, "FINISHED", now_ms(), now_ms(), facts, run_flags(result) | environment_tags(result),
                compute_metrics(result, job.slo, ideal), saved_files(result),
            )
        )  # fmt: skip
    spool.put(Record(store.sweep_id, "FINISHED", now_ms(), now_ms()))
    assert upload_waiting(spool, tracking) is None
    return tracking, store.sweep_id


def _job(label: str, name: str, toy: str, seed: int, rate: float) -> BenchConfig:
    length = LengthConfig(median=8, max=8)
    workload = WorkloadConfig(
        name="mixed",
        num_requests=4,
        rate=rate,
        source=SourceConfig(components={"chat": ComponentConfig(prompt=length, output=length)}),
    )
    engine = EngineConfig(kind="vllm", model="toy", num_blocks=600)
    strategy = StrategyConfig(name, "fcfs", STRATEGIES[toy], label=label)
    return BenchConfig(strategy, workload, engine, seed=seed)
