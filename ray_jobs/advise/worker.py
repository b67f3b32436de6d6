"""One simulated run in a worker process: its metrics and what a p99 over several runs needs."""

from __future__ import annotations

import asyncio
import os
import pickle
import tempfile
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pandas as pd

from ray_jobs.advise.queue import queue_facts
from ray_jobs.advise.traces import trace_of
from ray_jobs.engines import make_backend
from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.shared.base import EngineBackend
from ray_jobs.workload.trace import Trace
from tracking.imports import large_imports
from tracking.metrics.catalogue import compute_metrics
from tracking.metrics.config import SloConfig
from tracking.result import RunResult

KEPT = ("kind", "status", "warmup", "scheduled_t", "first_token_t", "finish_t", "output_tokens", "deadline_s")
"""Columns of a run's requests from which its latencies can be read again."""
RUN = "run"
ENGINES = 128  # built ones that a process keeps: they are small


@dataclass(frozen=True)
class Task:
    """A run to do."""

    job: JobConfig
    slo: SloConfig
    devices: int  # that the engine takes

    @property
    def key(self) -> str:
        """The same for equal runs."""
        return repr(self)


@dataclass
class Measured:
    """What a run showed; `error` says why there is nothing. `cpu_s` is what it took of the processor."""

    metrics: dict[str, float] = field(default_factory=dict)
    requests: pd.DataFrame = field(default_factory=pd.DataFrame)
    trace_hash: str = ""
    cpu_s: float = 0.0
    error: str | None = None


def prepare(log: str, environment: dict[str, str]) -> None:
    """Begins a worker: what engines print goes to `log`, and vLLM is imported before the first run."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    os.environ.update(environment)
    with large_imports():
        import ray_jobs.engines.vllm_sim  # noqa: F401 (takes seconds)


def measure(task: Task, folder: str) -> Measured:
    """Freezes the trace, runs it and computes its metrics. A run that fails says so in `error`."""
    begun = time.process_time()
    job, engine = task.job, task.job.engine_used
    try:
        trace = _trace(pickle.dumps((job.workload, job.seed, engine.vocab_size, engine.max_model_len)))
        backend = _engine(pickle.dumps(engine), folder)
        started = time.perf_counter()
        result = asyncio.run(backend.run(trace, job, RUN))
        (backend.folder / f"{RUN}.events.jsonl").unlink(missing_ok=True)  # the next run has the same name
    except Exception as error:  # of this candidate: the others go on
        return Measured(error=f"{type(error).__name__}: {error}", cpu_s=time.process_time() - begun)
    result.request_timeout_s = job.run.request_timeout_s
    metrics = compute_metrics(result, task.slo) | cost(result, task.devices) | queue_facts(result)
    metrics["run_wall_s"] = time.perf_counter() - started
    return Measured(metrics, result.requests[list(KEPT)], trace.shape, time.process_time() - begun)


def cost(result: RunResult, devices: int) -> dict[str, float]:
    """`gpu_h_per_mtok`: hours of all devices, from the first arrival to the last answer, for a million output
    tokens that were delivered. `recomputed_gpu_s`: device-seconds that went into tokens computed before, a
    step's time being shared equally among its tokens. `prompt_gpus`: how many devices compute prompts, on average."""
    table, steps = result.requests, result.steps
    done = table["status"] == "ok"
    tokens = float(table.loc[done, "output_tokens"].sum())
    seconds = result.finished_t - result.started_t
    per_token = steps["dur"] / (steps["prefill_tokens"] + steps["decode_tokens"]).clip(lower=1)
    prefilled = float(steps["prefill_tokens"].sum())
    each = float((per_token * steps["prefill_tokens"]).sum()) / prefilled if prefilled else 0.0
    recomputed = pd.to_numeric(table["recomputed_tokens"], errors="coerce").sum()
    costs = {"recomputed_gpu_s": float(recomputed) * each * devices}
    if seconds > 0:
        costs["prompt_gpus"] = prefilled * each * devices / seconds
    if tokens:
        costs["gpu_h_per_mtok"] = devices * seconds / 3600 / (tokens / 1e6)
    return costs


@lru_cache(maxsize=4)
def _trace(pickled: bytes) -> Trace:
    """Of a workload, a seed, and the engine's vocabulary and longest request."""
    return trace_of(*pickle.loads(pickled))


@lru_cache(maxsize=ENGINES)
def _engine(pickled: bytes, folder: str) -> EngineBackend:
    """Of an EngineConfig, with a folder of its own."""
    backend = make_backend(pickle.loads(pickled), Path(tempfile.mkdtemp(dir=folder)))
    asyncio.run(backend.start())
    return backend
