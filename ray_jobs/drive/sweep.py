"""Runs the blocks of a sweep over a pool of engine actors; every result is kept, whatever else fails."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

import ray
from mlflow.exceptions import MlflowException

from ray_jobs.drive.actor import failure_reason
from ray_jobs.drive.beside import start_here
from ray_jobs.drive.cluster import connect, engines_that_fit
from ray_jobs.drive.handle import EngineHandle
from ray_jobs.drive.kinds import DeviceKinds
from ray_jobs.drive.plan import PlannedRun, sweep_hash, sweep_name
from ray_jobs.drive.pool import EnginePool
from ray_jobs.drive.progress import SweepProgress
from ray_jobs.drive.recording import ENGINES_EACH, Recorder, now_ms
from ray_jobs.drive.summary import Row, summary_text
from ray_jobs.drive.traces import SharedTraces
from ray_jobs.drive.uploading import Uploader
from tracking.metrics.catalogue import METRICS
from tracking.metrics.ideal import IdealTimes
from tracking.reporting.figures import sweep_figure
from tracking.reporting.page import png
from tracking.store.address import short
from tracking.store.client import check_store, refused
from tracking.store.lease import Lease
from tracking.store.record import Finished, Record
from tracking.store.spool import Spool
from tracking.store.upload import upload_waiting
from tracking.store.writer import SweepStore, git_commit

log = logging.getLogger(__name__)

BEHIND = 4  # results that a recorder may be behind before engines wait for it
LOOK_S = 0.2
INTERRUPTED_PATIENCE_S = 15.0  # somebody waits for the prompt


@dataclass
class SweepOutcome:
    """What a sweep did: a row for each run that has a result, and the names of those that failed."""

    sweep_id: str
    experiment_id: str
    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reused: int = 0
    figure: str | None = None  # path of the sweep's figure
    frontier: str | None = None  # path of the figure of mean against p99, if there is a verdict
    waiting: int = 0  # records that the store does not have yet
    taken_by: Lease | None = None  # another process, which goes on with the sweep


class Sweep:
    """One sweep: `prepare` finds all that makes it impossible, then `run` does it."""

    def __init__(self, blocks: Sequence[Sequence[PlannedRun]], progress: SweepProgress):
        self.blocks = [list(block) for block in blocks]
        self.runs = [run for block in self.blocks for run in block]
        self.job = self.runs[0].job  # cluster, tracking and experiment are the same in all
        self.progress = progress
        self.engines = EnginePool()
        self.traces = SharedTraces(block[0].trace for block in self.blocks)
        self.ideals: dict[str, IdealTimes | None] = {}  # of blocks of which runs are reused
        self.kinds = DeviceKinds()
        self.recordings: set[asyncio.Task] = set()
        self.started_ms = now_ms()
        self.commit = git_commit()

    def prepare(self) -> None:
        """Joins the cluster and opens the store. Raises ValueError, ConnectionError or OSError."""
        check_store(self.job.tracking)
        connect(self.job.cluster)
        try:
            self.actors = min(engines_that_fit([run.job for run in self.runs]), len(self.blocks))
            self.store = SweepStore(self.job.tracking)
            self.store.open(self._hash(), self._name(), {"git_commit": self.commit})
            self.outcome = SweepOutcome(self.store.sweep_id, self.store.experiment_id)
            self.spool = Spool(self.job.tracking.spool, self.store.sweep_id)
            self.spool.drop_end()
            self.spool.open(self.job.tracking)
            waiting = self.spool.finished()  # before the store is asked: what leaves here is there
            self._reuse(self.store.finished() | waiting)
        except MlflowException as error:
            ray.shutdown()
            raise refused(self.job.tracking.uri, error) from None
        except BaseException:
            ray.shutdown()
            raise

    def run(self) -> SweepOutcome:
        """Runs what is left to do; the parent run is closed whatever happens."""
        self.heartbeat = self.store.beat()
        status, patience = "KILLED", INTERRUPTED_PATIENCE_S
        try:
            self.uploader = start_here(Uploader, self.store.sweep_id, self.job.tracking)
            asyncio.run(self._run_blocks())
            status = "FAILED" if self.outcome.failed else "FINISHED"
            patience = self.job.tracking.patience_s
        finally:
            try:
                self.outcome.taken_by = self.heartbeat.taken_by
                if self.outcome.taken_by is None:  # else its end is not ours to tell
                    self._end(status)
                asyncio.run(self._wait_for_store(patience))
            finally:
                self.heartbeat.stop()
                self.spool.close()
                ray.shutdown()
        return self.outcome

    def _hash(self) -> str:
        return sweep_hash(self.blocks)

    def _name(self) -> str:
        return sweep_name(self.runs)

    def _reuse(self, finished: dict[str, Finished]) -> None:
        """Takes over the results of an interrupted sweep, in the store or still on their way."""
        for block in self.blocks:
            trace = block[0].trace
            for run in list(block):
                done = finished.get(run.config_hash)
                if done is not None:
                    block.remove(run)
                    self.outcome.reused += 1
                    self.ideals[str(run.block)] = IdealTimes.stored(done.metrics)
                    self.outcome.rows.append(_row(run, done.metrics, done.tags))
                    self.progress.reused(run.name)
            if not block:
                self.traces.left(trace)
        self.blocks = [block for block in self.blocks if block]

    async def _run_blocks(self) -> None:
        """Every worker owns one engine and takes block after block until none is left."""
        actors = min(self.actors, len(self.blocks))
        count = min(-(-actors // ENGINES_EACH), os.cpu_count() or 1)
        self.recorders = [
            start_here(Recorder, self.store.sweep_id, self.job.tracking, self.ideals) for _ in range(count)
        ]
        self.behind = asyncio.Semaphore(BEHIND * count)
        watch = asyncio.create_task(self._watch_uploads())
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(actors):
                    workers.create_task(self._work())
        finally:  # interrupted as well: what was measured is kept
            await asyncio.gather(*self.recordings)
            watch.cancel()

    async def _work(self) -> None:
        engine: EngineHandle | None = None
        try:
            while block := self._next_block(engine):
                for run in block:
                    if self.heartbeat.taken_by is not None:
                        return
                    engine = await self._attempts(run, engine)
                self.traces.left(block[0].trace)
        finally:
            if engine is not None:
                await engine.stop()

    def _next_block(self, engine: EngineHandle | None) -> list[PlannedRun] | None:
        """The next block, one that the running engine can take if there is any."""
        if not self.blocks:
            return None
        fits = (
            place
            for place, (first, *_) in enumerate(self.blocks)
            if engine is not None
            and first.job.engine_used == engine.config
            and self.kinds.suits(first.cell, engine.device_kind)
        )
        return self.blocks.pop(next(fits, 0))

    async def _attempts(self, run: PlannedRun, engine: EngineHandle | None) -> EngineHandle | None:
        """Tries a run up to `run.attempts` times, on a fresh engine after a failure."""
        for attempt in range(1, run.job.run.attempts + 1):
            if self.engines.hopeless(run.job.engine_used):
                self.progress.failed(
                    run.name, attempt, "not tried: there is no node on which its engine starts"
                )
                break
            self.progress.started(run.name)
            started_ms = now_ms()
            try:
                engine = await self._engine_for(run, engine)
                started_ms = now_ms()
                result = await engine.run(
                    self.traces.reference(run.trace), run.job, f"{run.config_hash}-{attempt}"
                )
            except Exception as error:  # a crash of one run never loses the others
                log.debug("run %s failed", run.name, exc_info=True)
                if engine is not None:
                    await engine.stop()
                await self._failed(run, attempt, error, engine.log if engine else b"", started_ms)
                engine = None
            else:
                await self.behind.acquire()
                keeping = asyncio.create_task(self._keep(run, attempt, engine, result, started_ms))
                self.recordings.add(keeping)
                keeping.add_done_callback(self.recordings.discard)
                return engine
        self.outcome.failed.append(run.name)
        return None

    async def _engine_for(self, run: PlannedRun, engine: EngineHandle | None) -> EngineHandle:
        """The running engine if only the strategy changes, else a new one.

        All runs of a cell are on devices of one kind, that of the cell's first engine.
        """
        config = run.job.engine_used
        if engine is not None:
            if engine.config == config and self.kinds.suits(run.cell, engine.device_kind):
                self.kinds.reuse(run.cell, engine.device_kind)
                return engine
            await engine.stop()
        self.progress.engine_starts(run.name)
        since = time.monotonic()
        engine = await self.engines.start(
            config, run.cell, self.kinds, lambda text: self.progress.waiting(run.name, text)
        )
        self.progress.engine_is_up(run.name, time.monotonic() - since)
        return engine

    async def _keep(
        self, run: PlannedRun, attempt: int, engine: EngineHandle, result: ray.ObjectRef, started_ms: int
    ) -> None:
        """Has a result recorded, beside the next run; the driver sees its metrics only."""
        recorder = self.recorders[run.block % len(self.recorders)]
        facts = run.facts(attempt, self.commit)
        try:
            error, metrics, flags = await recorder.keep.remote(
                result, engine.environment, facts, run.job.slo, started_ms
            )
        except ray.exceptions.RayError as error:  # the disk is full, or the recorder died again and again
            self.outcome.failed.append(run.name)
            await self._failed(run, attempt, error, b"", started_ms)
        else:
            if error is not None:
                self.outcome.failed.append(run.name)
                self.progress.failed(run.name, attempt, error)
                return
            row = _row(run, metrics, flags)
            self.outcome.rows.append(row)
            self.progress.finished(run.name, row)
        finally:
            self.behind.release()

    async def _failed(
        self, run: PlannedRun, attempt: int, error: Exception, engine_log: bytes, started_ms: int
    ) -> None:
        reason, text = failure_reason(error), "".join(traceback.format_exception(error))
        self.progress.failed(run.name, attempt, reason)
        recorder = self.recorders[run.block % len(self.recorders)]
        facts = run.facts(attempt, self.commit)
        try:
            await recorder.fail.remote(facts, reason, text, getattr(error, "log", engine_log), started_ms)
        except ray.exceptions.RayError as lost:
            self.progress.failed(run.name, attempt, f"and could not be recorded: {failure_reason(lost)}")

    async def _watch_uploads(self) -> None:
        """Shows what the results wait for while the sweep goes on."""
        while True:
            await asyncio.sleep(5.0)
            self._show_waiting(*await self._upload_state())

    async def _upload_state(self) -> tuple[int, str | None]:
        """How many records wait for the store, and what for; without Ray they are uploaded right here."""
        try:
            return await self.uploader.state.remote()
        except ray.exceptions.RayError:
            error = await asyncio.to_thread(upload_waiting, self.spool, self.job.tracking)
            return len(self.spool.pending()), error

    async def _wait_for_store(self, patience_s: float) -> None:
        """Until the store has every record, or for `patience_s` after the last one it took."""
        last, since = -1, time.monotonic()
        while True:
            waiting, error = await self._upload_state()
            self.outcome.waiting = waiting
            if waiting != last:
                last, since = waiting, time.monotonic()
            if not waiting or (error and time.monotonic() - since > patience_s):
                return
            self._show_waiting(waiting, error)
            await asyncio.sleep(LOOK_S)

    def _show_waiting(self, waiting: int, error: str | None) -> None:
        if error is not None:
            self.progress.waiting("store", f"{waiting} results wait for it: {error}")

    def _end(self, status: str) -> None:
        """Spools the end of the sweep: status, table and figure of what there is, also if it was interrupted."""
        files: dict[str, bytes] = {}
        try:
            files = self._summary()
        except Exception as error:  # a sweep is not lost because its figure cannot be drawn or written
            log.exception("no summary")
            self.progress.failed("summary", 1, failure_reason(error))
        self.spool.put(Record(self.store.sweep_id, status, self.started_ms, now_ms(), files=files))

    def _summary(self) -> dict[str, bytes]:
        """The sweep's artifacts; the figure also goes into the folder `figures`. Strategies in the sweep's order."""
        if not self.outcome.rows:
            return {}
        order = list(dict.fromkeys(run.job.strategy.label for run in self.runs))
        self.outcome.rows.sort(key=lambda row: order.index(row.strategy))
        figure = png(sweep_figure(self.outcome.rows))
        files = {"summary.png": figure, "summary.txt": summary_text(self.outcome.rows).encode()}
        path = Path(self.job.figures) / f"{short(self.outcome.sweep_id)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(figure)
        self.outcome.figure = str(path)
        return files


def _row(run: PlannedRun, metrics: dict[str, float], flags: dict[str, str]) -> Row:
    known = {name: metrics[name] for name in METRICS if name in metrics}  # with names that all rows share
    return Row(
        run.group, run.job.strategy.label, known, {intern(flag): value for flag, value in flags.items()}
    )
