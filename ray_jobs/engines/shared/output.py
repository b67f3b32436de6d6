"""Where an engine's processes work, and print to."""

from __future__ import annotations

import os
from pathlib import Path

LOG_NAME = "engine.log"  # in the folder that the engine's actor works in
SCRATCH_VARIABLE = (
    "BIDKV_ENGINE_SCRATCH"  # names that folder; marks the processes of an engine, so that none outlives it
)


def send_output_to(path: Path) -> None:
    """Sends what this process and its children print to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
