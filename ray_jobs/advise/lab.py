"""Runs simulations on all cores and remembers what they showed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, TimeoutError, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import pandas as pd

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.space import Candidate, Space
from ray_jobs.advise.worker import Measured, Task, measure, prepare
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import JobConfig
from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources import has_sessions
from tracking.result import RunResult
from tracking.store.reader import StoredRun

Progress = Callable[[str, int, int], None]  # what is done, how many runs of how many
WARMUP_SHARE = 0.1  # of the requests of a run


@dataclass
class Lab:
    """A pool of worker processes; use as a context manager.

    A run is a candidate on a workload and a seed. What was run once is not run again. Runs that have not
    begun at their deadline are left out, so what `run` returns may be less than what was asked for.
    """

    config: RecommendConfig
    space: Space
    progress: Progress = lambda *_: None
    done: dict[str, StoredRun] = field(default_factory=dict)
    cpu_s: float = 0.0  # that all runs took

    def __post_init__(self) -> None:
        self.engine = simulated(self.config.engine, self.config.budget_s)
        sim = self.engine.sim
        self.devices = sim.model_shape.tensor_parallel
        self.processes = self.config.processes or len(os.sched_getaffinity(0))

    def __enter__(self) -> Lab:
        self.folder = Path(tempfile.mkdtemp(prefix="bidkv-"))
        self.pool = ProcessPoolExecutor(
            self.processes,
            get_context("spawn"),  # a fork of a process with threads may hang
            prepare,
            (str(self.folder / "engine.log"), dict(self.config.engine.env)),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:  # nobody wants what they are at
            for process in processes:
                process.terminate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self,
        what: str,
        wanted: Sequence[tuple[Candidate, WorkloadConfig, int]],
        deadline: float = float("inf"),
    ) -> dict[tuple[Candidate, int], StoredRun]:
        """The runs by candidate and seed; `deadline` is a time of `time.monotonic`.

        A run that fails is there as a failed one.
        """
        tasks = {(c, seed): self._task(c, workload, seed) for c, workload, seed in wanted}
        waiting: dict[Future[Measured], tuple[Candidate, int]] = {}
        for place, task in tasks.items():
            if task.key not in self.done:
                waiting[self.pool.submit(measure, task, str(self.folder))] = place
        count, total = 0, len(waiting)
        self.progress(what, count, total)
        try:
            for future in as_completed(waiting, _left(deadline)):
                self._keep(tasks[waiting[future]], future.result())
                count += 1
                self.progress(what, count, total)
        except TimeoutError:
            for future in waiting:
                future.cancel()
            for future in waiting:  # those under way are worth their few seconds
                if not future.cancelled():
                    self._keep(tasks[waiting[future]], future.result())
        return {place: self.done[task.key] for place, task in tasks.items() if task.key in self.done}

    def _task(self, candidate: Candidate, workload: WorkloadConfig, seed: int) -> Task:
        strategy = self.space.strategy(candidate)
        job = JobConfig(strategy, workload, self.engine, self.config.run, seed)
        return Task(job, self.config.slo, self.devices)

    def _keep(self, task: Task, measured: Measured) -> None:
        self.cpu_s += measured.cpu_s
        self.done[task.key] = stored(task, measured)


def stored(task: Task, measured: Measured) -> StoredRun:
    """A run as the statistics of `tracking.evidence` take it."""
    job = task.job
    tags = {"strategy": job.strategy.label, "seed": str(job.seed), "trace_hash": measured.trace_hash}
    if measured.error:
        tags["error"] = measured.error
    params = {"run.request_timeout_s": str(job.run.request_timeout_s)}

    def no_result() -> RunResult:
        raise ValueError(f"run {job.strategy.label} seed={job.seed}: only its requests are kept")

    def requests() -> pd.DataFrame:
        return measured.requests

    return StoredRun(
        task.key, f"{job.strategy.label} seed={job.seed}", tags, params, measured.metrics, no_result, requests,
        failed=measured.error is not None,
    )  # fmt: skip


def raise_for(run: StoredRun | None, config: RecommendConfig) -> NoReturn:
    """Stock itself does not run: what it was given is wrong, or takes longer than there is time."""
    if run is not None and "wall_timeout_s" not in run.tags["error"]:
        raise ValueError(f"the simulation of stock failed: {run.tags['error']}")
    own = config.engine.sim.wall_timeout_s
    if run is not None and own < config.budget_s:
        raise ValueError(
            f"engine.sim.wall_timeout_s={own:g}: must be longer: one run of stock takes more here"
        )
    raise ValueError(
        f"budget={config.budget}: must be longer: one run of stock takes more than that here; or make runs shorter "
        "(workload.sessions.count, search.requests)"
    )


def simulated(engine: EngineConfig, wall_timeout_s: float) -> EngineConfig:
    """The engine as the simulator runs it: a real one becomes one with the same limits."""
    sim = replace(engine.sim, wall_timeout_s=min(engine.sim.wall_timeout_s, wall_timeout_s))
    if engine.kind == "vllm_sim":
        return replace(engine, sim=sim)
    shape = sim.model_shape
    return replace(
        engine, kind="vllm_sim", model=shape.name, sim=sim, num_gpus=0.0, num_cpus=1.0, tensor_parallel_size=1,
        python=None, pass_env=[], extra={key: v for key, v in engine.extra.items() if key != "kv_cache_memory_bytes"},
    )  # fmt: skip


def sized(workload: WorkloadConfig, requests: int | None) -> WorkloadConfig:
    """The workload with so many requests, a tenth of them warm-up; sessions stay as they are."""
    if requests is None or has_sessions(workload.source.kind):
        return workload
    return replace(workload, num_requests=requests, warmup_requests=round(requests * WARMUP_SHARE))


def _left(deadline: float) -> float | None:
    return None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
