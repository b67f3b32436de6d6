"""The folder an engine's actor works in, and what ends an engine whose actor is gone."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import psutil

from ray_jobs.engines.shared.output import LOG_NAME, SCRATCH_VARIABLE
from tracking.store.lease import Lease

PREFIX = "bidkv-"
OWNER = "owner.json"  # in the folder: whose it is
LOG_TAIL = 256 * 1024  # bytes of an engine's log that are kept when it fails


def claimed_folder() -> Path:
    """A new folder for temporary files that says whose it is."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / OWNER).write_text(json.dumps(Lease.mine().tags))
    return folder


def end_abandoned() -> None:
    """Ends what actors of this machine left that nobody stopped: those of a driver that was killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        if _is_gone(owner):
            reap(str(owner.parent))


def _is_gone(owner: Path) -> bool:
    try:
        lease = Lease.of(json.loads(owner.read_text()))
    except (OSError, ValueError):  # another user's, or just being written
        return False
    return lease is not None and lease.is_here and not lease.alive()


def read_log(folder: str) -> bytes:
    """The end of an engine's log; empty if it is not on this node."""
    path = Path(folder) / LOG_NAME
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL))
        return file.read()


def reap(folder: str) -> bytes:
    """Ends what a stopped or killed actor left on its node: the engine's processes and its scratch folder.

    Returns the end of the engine's log.
    """
    for process in psutil.process_iter():
        try:
            if process.environ().get(SCRATCH_VARIABLE) == folder:
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    log = read_log(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return log
