"""Whether the interpreter that an engine is to run in has what it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache

from ray_jobs.drive.config import BenchConfig
from tracking.errors import require

ASK = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def check_interpreters(jobs: Iterable[BenchConfig]) -> None:
    """Raises ValueError, in one line, where SGLang is simulated in an environment of this machine that has none."""
    for job in jobs:
        python = job.engine.python
        if (
            job.engine.kind == "sglang_sim" and job.cluster.address is None
        ):  # a cluster's nodes have their own
            require(
                _has_module(python or sys.executable, "sglang"), "engine.python", python,
                "one of an environment with SGLang, which is not installed here: make env-sglang",
            )  # fmt: skip


@cache
def _has_module(python: str, module: str) -> bool:
    """Asked once, since a sweep has many jobs."""
    return subprocess.run([python, "-P", "-c", ASK, module], capture_output=True, check=False).returncode == 0
