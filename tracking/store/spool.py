"""A folder in which results wait for the MLflow store: written in one step, removed when the store has them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tracking.store.config import TrackingConfig
from tracking.store.record import Record

STORE_FILE = "store.json"  # which store a sweep's records are for
LOCK_FILE = "lock"
DRAFT = ".draft-"


class Spool:
    """The records of one sweep, in the order in which they were put. Several processes may put."""

    def __init__(self, root: str | Path, sweep_id: str):
        self.sweep_id = sweep_id
        self.folder = Path(root) / sweep_id

    def open(self, config: TrackingConfig) -> None:
        """Makes the folder and notes the store that its records are for. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STORE_FILE).write_text(json.dumps(asdict(config)))

    def store(self) -> TrackingConfig:
        """The store that the records are for."""
        return TrackingConfig(**json.loads((self.folder / STORE_FILE).read_text()))

    def put(self, record: Record) -> None:
        """Keeps a record: all of it or, if the disk is full (OSError), nothing."""
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        try:
            record.save(draft / "record")
            name = record.run.config_hash if record.run else "sweep"
            os.rename(draft / "record", self.folder / f"{record.ended_ms:014d}-{draft.name[-8:]}-{name}")
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def pending(self) -> list[Path]:
        """Folders of the records that wait, oldest first; the end of the sweep comes last."""
        waiting = [f for f in self.folder.glob("*-*-*") if f.is_dir() and not f.name.startswith(DRAFT)]
        return sorted(waiting, key=lambda f: (f.name.endswith("-sweep"), f.name))

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def close(self) -> None:
        """Removes the folder if nothing waits in it."""
        if self.folder.is_dir() and not self.pending():
            shutil.rmtree(self.folder)

    @contextmanager
    def uploading(self) -> Iterator[bool]:
        """True for the one process that may upload these records now, False if another does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK_FILE, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def waiting_spools(root: str | Path) -> list[Spool]:
    """The sweeps under `root` with records that no store has yet."""
    folder = Path(root)
    names = sorted(p.parent.name for p in folder.glob(f"*/{STORE_FILE}")) if folder.is_dir() else []
    return [spool for spool in (Spool(folder, name) for name in names) if spool.pending()]
