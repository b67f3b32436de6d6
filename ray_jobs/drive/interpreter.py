"""What the interpreter that an engine is to run in has installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache

from ray_jobs.drive.config import BenchConfig
from ray_jobs.engines.routers.served import SERVED
from tracking.errors import require

ASK = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


def check_interpreters(jobs: Iterable[BenchConfig]) -> None:
    """Raises ValueError, in one line, where an environment of this machine has not what its engine needs: SGLang to be
    simulated, or the package that a router in front of real engines scores with."""
    for job in jobs:
        if job.cluster.address is not None:  # its nodes have their own
            continue
        engine, python = job.engine, job.engine.python
        if engine.kind == "sglang_sim":
            require(
                installed_version("sglang", python) is not None, "engine.python", python,
                "one of an environment with SGLang, which is not installed here: make env-sglang",
            )  # fmt: skip
        if engine.runs_for_real and engine.replicas > 1 and (package := SERVED[engine.router.name].package):
            pip = f"pip install {package}=={SERVED[engine.router.name].version}"
            require(
                installed_version(package, python) is not None, "engine.router.name", engine.router.name,
                f"another with engine.python={python or sys.executable}, which has no {package} to score with: {pip}",
            )  # fmt: skip


@cache
def installed_version(package: str, python: str | None = None) -> str | None:
    """The package's, as `python` has it (default: this one); None where it is not installed. Asked once, for a sweep's many jobs."""
    asked = subprocess.run(
        [python or sys.executable, "-P", "-c", ASK, package], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else None
