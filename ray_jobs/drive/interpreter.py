"""What another interpreter of this machine has installed."""

from __future__ import annotations

import subprocess
from functools import cache

ASK = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


@cache
def has_module(python: str, module: str) -> bool:
    """Whether `python` would find the module `module`; asked once in a process, since a sweep has many jobs."""
    return subprocess.run([python, "-P", "-c", ASK, module], capture_output=True, check=False).returncode == 0
