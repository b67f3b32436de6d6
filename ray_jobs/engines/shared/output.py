"""Where an engine's process prints to."""

from __future__ import annotations

import os
from pathlib import Path

LOG_NAME = "engine.log"  # in the folder that the engine's actor works in


def send_output_to(path: Path) -> None:
    """Sends what this process and its children print to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
