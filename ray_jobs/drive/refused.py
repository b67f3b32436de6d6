"""What a sweep that is refused leaves behind: nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracking.cli import BAD_INPUT

BEGUN = "multirun.yaml"  # Hydra writes it before it composes the first job


@contextmanager
def nothing_left(sweep_folder: str) -> Iterator[None]:
    """Within it, an exit on bad input takes along the folder that Hydra began for the sweep."""
    try:
        yield
    except SystemExit as end:
        if end.code == BAD_INPUT:
            _remove(Path(sweep_folder))
        sys.exit(end.code)


def _remove(folder: Path) -> None:
    """Unless there is more in it than Hydra's beginning: a folder that was named may be an older sweep's."""
    inner = sorted(folder.rglob("*"), reverse=True)
    if not folder.is_dir() or any(not path.is_dir() and path.name != BEGUN for path in inner):
        return
    for path in inner:
        path.rmdir() if path.is_dir() else path.unlink()
    os.removedirs(folder)  # and those above that are empty now
