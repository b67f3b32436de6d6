"""Runs the report's command as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def report(*overrides: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "tracking.report", *overrides]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=600)
