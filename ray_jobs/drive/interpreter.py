"""What the interpreter that an engine is to run in has installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache

from ray_jobs.drive.config import BenchConfig
from tracking.errors import require

ASK = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


def check_interpreters(jobs: Iterable[BenchConfig]) -> None:
    """Raises ValueError, in one line, where SGLang is simulated in an environment of this machine that has none."""
    for job in jobs:
        python = job.engine.python
        if (
            job.engine.kind == "sglang_sim" and job.cluster.address is None
        ):  # a cluster's nodes have their own
            require(
                installed_version("sglang", python) is not None, "engine.python", python,
                "one of an environment with SGLang, which is not installed here: make env-sglang",
            )  # fmt: skip


@cache
def installed_version(package: str, python: str | None = None) -> str | None:
    """The package's, as `python` has it (default: this one); None where it is not installed. Asked once, for a sweep's many jobs."""
    asked = subprocess.run(
        [python or sys.executable, "-P", "-c", ASK, package], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else None
