"""What stands in for packages that SGLang imports and a CPU has not: see README.md here."""

from __future__ import annotations

import sys
from pathlib import Path


def put_first() -> None:
    """Has this process find these before what is installed. Call it before SGLang is imported."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
