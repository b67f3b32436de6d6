"""Runs the blocks of a sweep over a pool of engine actors and records every run in MLflow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ray
from matplotlib.figure import Figure

from ray_jobs.actor import EngineHandle, EngineStartError, failure_reason
from ray_jobs.cluster import connect, engines_that_fit
from ray_jobs.config import EngineConfig, require
from ray_jobs.plan import PlannedRun, digest, load_name
from ray_jobs.progress import SweepProgress
from ray_jobs.result import RunResult
from ray_jobs.summary import Row, summary_text
from tracking.figures import run_figure, sweep_figure
from tracking.metrics import compute_metrics, run_flags
from tracking.store import SweepStore, git_commit

log = logging.getLogger(__name__)


@dataclass
class SweepOutcome:
    """What a sweep did: a row for each run that has a result, and the names of those that failed."""

    sweep_id: str
    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reused: int = 0
    figure: str | None = None  # path of the sweep's figure


class Sweep:
    """One sweep. `run` does all of it; the MLflow runs are closed whatever happens."""

    def __init__(self, blocks: Sequence[Sequence[PlannedRun]], progress: SweepProgress):
        self.blocks = [list(block) for block in blocks]
        self.runs = [run for block in self.blocks for run in block]
        self.job = self.runs[0].job  # cluster, tracking and experiment are the same in all
        self.progress = progress
        self.store = SweepStore(self.job.tracking)
        self.broken: list[EngineConfig] = []  # engines that did not start
        self.traces: dict[str, ray.ObjectRef] = {}

    def run(self) -> SweepOutcome:
        """Runs what is left to do. Raises only what makes the whole sweep impossible."""
        connect(self.job.cluster)
        try:
            actors = min(engines_that_fit(self.job), len(self.blocks))
            require(
                actors > 0, "engine.num_gpus, engine.num_cpus",
                (self.job.engine.num_gpus, self.job.engine.num_cpus),
                f"within what the cluster has: {ray.cluster_resources()}",
            )  # fmt: skip
            finished = self.store.open(self._hash(), self._name(), {"git_commit": git_commit()})
            self.outcome = SweepOutcome(self.store.sweep_id)
            status = "KILLED"
            try:
                self._reuse(finished)
                asyncio.run(self._run_blocks(actors))
                status = "FAILED" if self.outcome.failed else "FINISHED"
            finally:
                self._summarise()
                self.store.close(status)
            return self.outcome
        finally:
            ray.shutdown()

    def _summarise(self) -> None:
        """Draws and logs what there is, also of a sweep that was interrupted; strategies in the sweep's order."""
        if not self.outcome.rows:
            return
        order = list(dict.fromkeys(run.job.strategy.label for run in self.runs))
        self.outcome.rows.sort(key=lambda row: order.index(row.strategy))
        figure = sweep_figure(self.outcome.rows)
        self.store.log_sweep({"summary.png": figure}, {"summary.txt": summary_text(self.outcome.rows)})
        path = Path(self.job.figures) / f"{self.outcome.sweep_id[:8]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        self.outcome.figure = str(path)

    def _hash(self) -> str:
        return digest([run.config_hash for run in self.runs])

    def _name(self) -> str:
        return self.job.experiment or time.strftime("sweep %Y-%m-%d %H:%M:%S")

    def _reuse(self, finished: dict) -> None:
        """Takes over the results of an interrupted sweep."""
        for block in self.blocks:
            for run in list(block):
                done = finished.get(run.config_hash)
                if done is not None:
                    block.remove(run)
                    self.outcome.reused += 1
                    self.outcome.rows.append(_row(run, done.data.metrics, done.data.tags))
                    self.progress.reused(run.name)
        self.blocks = [block for block in self.blocks if block]

    async def _run_blocks(self, actors: int) -> None:
        """Every worker owns one engine and takes block after block until none is left."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(actors):
                workers.create_task(self._work())

    async def _work(self) -> None:
        engine: EngineHandle | None = None
        try:
            while block := self._next_block(engine):
                for run in block:
                    engine = await self._attempts(run, engine)
        finally:
            if engine is not None:
                await engine.stop()

    def _next_block(self, engine: EngineHandle | None) -> list[PlannedRun] | None:
        """The next block, one that the running engine can take if there is any."""
        if not self.blocks:
            return None
        fits = (b for b in self.blocks if engine is not None and b[0].job.engine == engine.config)
        block = next(fits, self.blocks[0])
        self.blocks.remove(block)
        return block

    async def _attempts(self, run: PlannedRun, engine: EngineHandle | None) -> EngineHandle | None:
        """Tries a run up to `run.attempts` times, on a fresh engine after a failure."""
        for attempt in range(1, run.job.run.attempts + 1):
            if run.job.engine in self.broken:
                break
            run_id = self.store.start(run, attempt)
            self.progress.started(run.name)
            try:
                engine = await self._engine_for(run, engine)
                result = await engine.run(self._trace_ref(run), run.job, run_id)
                self._record(run_id, run, result)
                return engine
            except Exception as error:  # a crash of one run never loses the others
                log.debug("run %s failed", run.name, exc_info=True)
                reason = failure_reason(error)
                self.store.fail(run_id, reason)
                self.progress.failed(run.name, attempt, reason)
                if isinstance(error, EngineStartError):
                    self.broken.append(run.job.engine)
                if engine is not None:
                    await engine.stop()
                    engine = None
        self.outcome.failed.append(run.name)
        return None

    async def _engine_for(self, run: PlannedRun, engine: EngineHandle | None) -> EngineHandle:
        """The running engine if only the strategy changes, else a new one."""
        if engine is not None:
            if engine.config == run.job.engine:
                return engine
            await engine.stop()
        engine = EngineHandle(run.job.engine)
        await engine.start()
        return engine

    def _trace_ref(self, run: PlannedRun) -> ray.ObjectRef:
        if run.trace.hash not in self.traces:
            self.traces[run.trace.hash] = ray.put(run.trace)
        return self.traces[run.trace.hash]

    def _record(self, run_id: str, run: PlannedRun, result: RunResult) -> None:
        metrics, flags = compute_metrics(result, run.job.slo), run_flags(result)
        figures: dict[str, Figure] = {"timeline.png": run_figure(result)}
        self.store.finish(run_id, run, result, metrics, flags, figures)
        row = _row(run, metrics, flags)
        self.outcome.rows.append(row)
        self.progress.finished(run.name, row)


def _row(run: PlannedRun, metrics: dict[str, float], flags: dict[str, str]) -> Row:
    engine = run.job.engine
    group = f"{run.job.workload.name}, {load_name(run.job)}, {engine.kind}"
    return Row(group, run.job.strategy.label, dict(metrics), dict(flags))
