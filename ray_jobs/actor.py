"""The Ray actor that owns one engine, and the driver's handle on it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_jobs.config import BenchConfig, EngineConfig
from ray_jobs.engines import make_backend
from ray_jobs.result import RunResult
from ray_jobs.trace import Trace

STOP_TIMEOUT_S = 60.0
EXCEPTION_LINE = re.compile(r"[A-Za-z_.]+(Error|Exception): ")


class EngineStartError(RuntimeError):
    """The engine did not come up; trying again with the same configuration is of little use."""


class EngineActor:
    """One engine on one GPU (or on CPUs). Returns data; writes nothing that outlives it."""

    def __init__(self, config: EngineConfig):
        self.folder = Path(tempfile.mkdtemp(prefix="bidkv-engine-"))
        self.log = self.folder / "engine.log"
        _redirect_output(self.log)
        self.backend = make_backend(config, self.folder)

    async def start(self) -> dict[str, Any]:
        """The engine's environment; raises EngineStartError with the reason the engine's log gives."""
        try:
            return await self.backend.start()
        except Exception as error:
            raise EngineStartError(reason(error, self.log.read_text(errors="replace"))) from None

    async def run(self, trace: Trace, job: BenchConfig, run_id: str) -> RunResult:
        return await self.backend.run(trace, job, run_id)

    async def stop(self) -> None:
        await self.backend.stop()

    async def footprint(self) -> tuple[str, str, list[tuple[int, float]]]:
        """Node, scratch folder and (pid, creation time) of the engine's processes."""
        processes = psutil.Process(os.getpid()).children(recursive=True)
        node = ray.get_runtime_context().get_node_id()
        return node, str(self.folder), [(p.pid, p.create_time()) for p in processes]


def reason(error: BaseException, log: str) -> str:
    """The last exception in the engine's log: engines start children, and the child says why it died."""
    lines = [line.strip() for line in log.splitlines() if EXCEPTION_LINE.match(line.strip())]
    own = f"{type(error).__name__}: {error}"
    causes = [line for line in lines if line not in own]
    return f"{causes[-1]} ({own})" if causes else own


def failure_reason(error: BaseException) -> str:
    """What went wrong, in one line: of an actor's failure its own exception, without Ray's traceback."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"


def _redirect_output(path: Path) -> None:
    """Sends what this process and its children print to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def reap(folder: str, processes: list[tuple[int, float]]) -> None:
    """Ends what a stopped or killed actor left on its node: engine processes, scratch folder."""
    for pid, created in processes:
        try:
            process = psutil.Process(pid)
            if process.create_time() == created:
                process.kill()
        except psutil.NoSuchProcess:
            continue
    shutil.rmtree(folder, ignore_errors=True)


class EngineHandle:
    """Starts an engine actor for a config, runs jobs on it with deadlines, and leaves no orphan."""

    def __init__(self, config: EngineConfig):
        self.config = config
        self.environment: dict[str, Any] = {}

    async def start(self) -> None:
        """Raises TimeoutError when the engine is not up within `engine.start_timeout_s`."""
        config = self.config
        runtime_env: dict[str, Any] = {"env_vars": dict(config.env)}
        if config.python:
            runtime_env["py_executable"] = config.python
        self._actor = (
            ray.remote(EngineActor)
            .options(
                num_cpus=config.num_cpus,
                num_gpus=config.num_gpus,
                max_restarts=0,  # a silent retry would corrupt a trial
                max_task_retries=0,
                max_concurrency=4,
                runtime_env=runtime_env,
            )
            .remote(config)
        )
        try:
            self.environment = await self._within(config.start_timeout_s, self._actor.start.remote())
            self._node, self._folder, self._processes = await self._within(
                STOP_TIMEOUT_S, self._actor.footprint.remote()
            )
        except BaseException:
            await self._kill()
            raise

    async def run(self, trace: ray.ObjectRef, job: BenchConfig, run_id: str) -> RunResult:
        """One run; its own deadline is the job's, with a margin for an engine that hangs."""
        result = await self._within(
            job.run.timeout_s + STOP_TIMEOUT_S, self._actor.run.remote(trace, job, run_id)
        )
        result.environment = self.environment
        return result

    async def stop(self) -> None:
        """Shuts the engine down, by force if it does not answer."""
        try:
            await self._within(STOP_TIMEOUT_S, self._actor.stop.remote())
        except (TimeoutError, ray.exceptions.RayError):
            pass  # killed just below
        await self._kill()

    async def _kill(self) -> None:
        ray.kill(self._actor)
        if hasattr(self, "_node"):
            task = ray.remote(reap).options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(self._node, soft=True)
            )
            await self._within(STOP_TIMEOUT_S, task.remote(self._folder, self._processes))

    @staticmethod
    async def _within(seconds: float, reference: ray.ObjectRef) -> Any:
        return await asyncio.wait_for(asyncio.wrap_future(reference.future()), seconds)
