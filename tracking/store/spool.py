"""A folder in which results wait for the MLflow store: written in one step, removed when the store has them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tracking.store.config import TrackingConfig
from tracking.store.record import Finished, Record

STORE_FILE = "store.json"  # which store a sweep's records are for
LOCK_FILE = "lock"
OPEN_FILE = "open"  # locked as long as a sweep puts records here
DRAFT = ".draft-"


class Spool:
    """The records of one sweep, in the order in which they were put. Several processes may put."""

    def __init__(self, root: str | Path, sweep_id: str):
        self.sweep_id = sweep_id
        self.folder = Path(root) / sweep_id
        self._open: IO[str] | None = None

    def open(self, config: TrackingConfig) -> None:
        """Makes the folder, which stays until `close`, and notes the store of its records. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STORE_FILE).write_text(json.dumps(asdict(config)))
        self._open = open(self.folder / OPEN_FILE, "w")
        fcntl.flock(self._open, fcntl.LOCK_SH)

    def store(self) -> TrackingConfig:
        """The store that the records are for."""
        return TrackingConfig(**json.loads((self.folder / STORE_FILE).read_text()))

    def put(self, record: Record) -> None:
        """Keeps a record: all of it or, if the disk is full (OSError), nothing. The same record again is one."""
        name = self._name(record)
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        try:
            record.save(draft / name)
            os.rename(draft / name, self.folder / name)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # else it is there already
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @staticmethod
    def _name(record: Record) -> str:
        """Sorts by time, and is the same when a recorder that died makes a record again."""
        if record.run is None:
            return f"{record.ended_ms:014d}-0-sweep"
        return f"{record.started_ms:014d}-{record.run.tags.get('attempt', 1)}-{record.run.config_hash}"

    def note(self, name: str, value: Any) -> Any:
        """What was noted first under this name: `value` (plain data) unless there is something already."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            handle, draft = tempfile.mkstemp(dir=self.folder, prefix=DRAFT)
            with os.fdopen(handle, "w") as file:
                json.dump(value, file)
            os.rename(draft, path)
        return json.loads(path.read_text())

    def pending(self) -> list[Path]:
        """Folders of the records that wait, oldest first; the end of the sweep comes last."""
        waiting = [f for f in self.folder.glob("*-*-*") if f.is_dir() and not f.name.startswith(DRAFT)]
        return sorted(waiting, key=lambda f: (f.name.endswith("-sweep"), f.name))

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def close(self) -> None:
        """Removes the folder if nothing waits in it and no living process has it open."""
        if self._open is not None:
            self._open.close()
        if not self.folder.is_dir() or self.pending():
            return
        with open(self.folder / OPEN_FILE, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            shutil.rmtree(self.folder)

    def finished(self) -> dict[str, Finished]:
        """The runs whose results wait here, by config hash: they are done, wherever the store is."""
        records = [record for folder in self.pending() if (record := _still_there(folder)) is not None]
        return {
            record.run.config_hash: Finished(record.metrics, record.run.tags | record.tags)
            for record in records
            if record.run is not None and record.status == "FINISHED"
        }

    def drop_end(self) -> None:
        """Removes the end of a sweep that goes on now. Waits for a process that uploads."""
        if self.folder.is_dir():
            with self.uploading(wait=True):
                for folder in self.folder.glob("*-sweep"):
                    self.remove(folder)

    @contextmanager
    def uploading(self, wait: bool = False) -> Iterator[bool]:
        """True for the one process that may upload these records now, False if another does (and not `wait`)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK_FILE, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True


def waiting_spools(root: str | Path) -> list[Spool]:
    """The sweeps under `root` with records that no store has yet."""
    folder = Path(root)
    names = sorted(p.parent.name for p in folder.glob(f"*/{STORE_FILE}")) if folder.is_dir() else []
    return [spool for spool in (Spool(folder, name) for name in names) if spool.pending()]


def _still_there(folder: Path) -> Record | None:
    """A waiting record; None if it was uploaded meanwhile."""
    try:
        return Record.load(folder)
    except FileNotFoundError:
        return None
