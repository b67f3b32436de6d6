"""The Ray actor that owns one engine."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import ray

from ray_jobs.drive.scratch import claimed_folder, end_abandoned
from ray_jobs.engines import make_backend
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.shared.base import EngineBackend
from ray_jobs.engines.shared.output import LOG_NAME, SCRATCH_VARIABLE, send_output_to
from ray_jobs.workload.trace import Trace
from tracking.result import RunResult

EXCEPTION_LINE = re.compile(r"[A-Za-z_.]+(Error|Exception): ")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
REASON_LIMIT = 500  # characters


class EngineStartError(RuntimeError):
    """The engine did not come up."""


class EngineActor:
    """One engine on one GPU (or on CPUs). Returns data; writes nothing that outlives it."""

    def __init__(self) -> None:
        end_abandoned()
        self.folder = claimed_folder()
        self.log = self.folder / LOG_NAME
        send_output_to(self.log)
        # Sockets and temporary files of the engine go where they are removed with it.
        os.environ["TMPDIR"] = os.environ[SCRATCH_VARIABLE] = tempfile.tempdir = str(self.folder)
        self.backend: EngineBackend | None = None

    async def scratch(self) -> str:
        return str(self.folder)

    async def start(self, config: EngineConfig, variables: Mapping[str, str]) -> dict[str, Any]:
        """The engine's environment; raises EngineStartError with the reason the engine's log gives.

        `variables` are set in this process first; the engine and its children have them too.
        """
        os.environ.update(variables)
        since = time.monotonic()
        try:
            self.backend = make_backend(config, self.folder)
            environment = await self.backend.start()
        except Exception as error:
            raise EngineStartError(reason(error, self.log.read_text(errors="replace"))) from None
        return environment | {"engine_start_s": round(time.monotonic() - since, 1)} | _who()

    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> tuple[str, RunResult]:
        """The run's status apart from its result, so that the driver need not fetch the result."""
        since = time.time()
        result = await self.backend.run(trace, job, run_id)
        result.served_t = (since, time.time())
        return result.status, result

    async def stop(self) -> None:
        if self.backend is not None:
            await self.backend.stop()


def reason(error: BaseException, log: str) -> str:
    """The last exception in the engine's log: engines start children, and the child says why it died."""
    lines = [line.strip() for line in log.splitlines() if EXCEPTION_LINE.match(line.strip())]
    own = f"{type(error).__name__}: {error}"
    causes = [line for line in lines if line not in own]
    return f"{causes[-1]} ({own})" if causes else own


def failure_reason(error: BaseException) -> str:
    """What went wrong, in one line: of an actor's failure its own exception, without Ray's traceback."""
    cause = getattr(error, "cause", None) or error
    text = ANSI.sub("", str(cause))
    if len(text) > REASON_LIMIT:  # Ray puts the traceback of a dead actor into its message
        last = [line.strip() for line in text.splitlines() if EXCEPTION_LINE.match(line.strip())]
        text = last[-1] if last else text[:REASON_LIMIT]
    return f"{type(cause).__name__}: {' '.join(text.split())}"


def _who() -> dict[str, str]:
    """What tells this engine from others on the same machine."""
    context = ray.get_runtime_context()
    gpus = ",".join(map(str, context.get_accelerator_ids().get("GPU", [])))
    return {"engine_id": context.get_actor_id()[:8]} | ({"gpus": gpus} if gpus else {})
