"""The driver's handle on an engine actor: start, run, stop, with deadlines, and no orphan."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from ray_jobs.drive.actor import EngineActor, EngineStartError, failure_reason
from ray_jobs.drive.place import Place, device_kind, needs
from ray_jobs.drive.scratch import reap
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import JobConfig

STOP_TIMEOUT_S = 60.0


class StartFailed(RuntimeError):
    """The engine did not come up; `log` is the end of what it said."""

    def __init__(self, reason: str, log: bytes):
        super().__init__(reason)
        self.log = log


class EngineHandle:
    """One engine in a place that was taken for it."""

    def __init__(self, config: EngineConfig, place: Place):
        self.config = config
        self.place = place
        self.device_kind = device_kind(place.node)
        self.environment: dict[str, Any] = {}
        self.log = b""  # the end of the engine's log, once it was stopped
        self._folder: str | None = None

    async def start(self) -> None:
        """Raises StartFailed when the engine is not up within `engine.start_timeout_s`, or cannot be."""
        config, taken = self.config, needs(self.config)
        # Not a part of `runtime_env`, which Ray writes into its logs and shows in its dashboard.
        passed = {name: os.environ[name] for name in config.pass_env if name in os.environ}
        runtime_env: dict[str, Any] = {"env_vars": dict(config.env)}
        if config.python:
            runtime_env["py_executable"] = config.python
        self._actor = (
            ray.remote(EngineActor)
            .options(
                num_cpus=taken.get("CPU", 0),
                num_gpus=taken.get("GPU", 0),
                max_restarts=0,  # a silent retry would corrupt a trial
                max_task_retries=0,
                max_concurrency=4,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self.place.group),
                runtime_env=runtime_env,
            )
            .remote()
        )
        try:
            async with asyncio.timeout(config.start_timeout_s):
                self._folder = await self._actor.scratch.remote()
                self.environment = await self._actor.start.remote(config, passed)
        except (TimeoutError, EngineStartError, ray.exceptions.RayError) as error:
            await self.stop(ask=False)
            limit = f"not up within engine.start_timeout_s={config.start_timeout_s:g} s"
            late = isinstance(error, TimeoutError)
            raise StartFailed(limit if late else failure_reason(error), self.log) from error
        except BaseException:
            await self.stop(ask=False)
            raise

    async def run(self, trace: ray.ObjectRef, job: JobConfig, run_id: str) -> ray.ObjectRef:
        """The result of one run, left where it is. Its deadline has a margin for an engine that hangs.

        Raises what the run raised, TimeoutError with the limit's name after the deadline.
        """
        status, result = self._actor.run.options(num_returns=2).remote(trace, job, run_id)
        key, limit = wall_limit(job)
        try:
            async with asyncio.timeout(limit + STOP_TIMEOUT_S):
                await status
        except TimeoutError:
            raise TimeoutError(f"no answer from the engine after {key}={limit:g} s") from None
        except ray.exceptions.RayError:
            with suppress(ray.exceptions.RayError):
                await result  # the same error; Ray prints one that nobody took
            raise
        return result

    async def stop(self, ask: bool = True) -> None:
        """Shuts the engine down, by force if it does not answer, and gives its place back."""
        try:
            if ask:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._actor.stop.remote()
        except (TimeoutError, ray.exceptions.RayError):
            pass  # killed just below
        ray.kill(self._actor)
        self.log = await self._reaped()
        self.place.leave()

    async def _reaped(self) -> bytes:
        """The end of the engine's log, from its node; empty if that cannot be had any more."""
        if self._folder is None:
            return b""
        here = NodeAffinitySchedulingStrategy(self.place.node, soft=True)
        task = ray.remote(reap).options(num_cpus=0, scheduling_strategy=here)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                return await task.remote(self._folder)
        except (TimeoutError, ray.exceptions.RayError):
            return b""


def wall_limit(job: JobConfig) -> tuple[str, float]:
    """The key and the value, in real seconds, of how long a run may take; a simulation has its own."""
    if job.engine.sim is not None and job.engine.simulated:
        return "engine.sim.wall_timeout_s", job.engine.sim.wall_timeout_s
    return "run.timeout_s", job.run.timeout_s
