"""Reads a folder of recordings, as far as their segments are there."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bidkv.adapters.shared.recording.engine import FORMAT, STEP
from bidkv.adapters.shared.recording.lives import QUEUE
from bidkv.adapters.shared.recording.segments import NAME
from tracking.errors import require
from tracking.recorded.whole import whole_record

KINDS = ("request", "arrival", "preempt", "strategy")


@dataclass
class Recorded:
    """One start of one engine.

    `head` describes the engine. `requests` are those that ended, `arrivals` all that came, `steps` all that did something;
    a column is named as in the file. `unread` are lines that are no whole record, such as the last of a server that was killed.
    """

    name: str
    head: dict[str, Any]
    requests: pd.DataFrame
    arrivals: pd.DataFrame
    preempts: pd.DataFrame
    steps: pd.DataFrame
    strategies: list[dict[str, Any]] = field(default_factory=list)
    unread: int = 0

    @property
    def cut_off(self) -> int:
        """Requests that came and whose end is not recorded."""
        if self.arrivals.empty:
            return 0
        ended = set(self.requests["id"]) if len(self.requests) else set()
        return sum(name not in ended for name in self.arrivals["id"])


def read_recordings(folder: str, key: str = "folder", with_steps: bool = True) -> list[Recorded]:
    """Every start of every engine in the folder that has requests, in the order of their names. Steps are most of it, and
    left out if nobody wants them.

    Raises ValueError, naming `key`, if there is none, or a file that this version does not read.
    """
    place = Path(folder).expanduser()
    require(
        place.is_dir(), key, folder, "a folder that a server recorded into (BIDKV_RECORD, --bidkv-record)"
    )
    segments: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()):
        name = NAME.fullmatch(path.name)
        if name and path.is_file():
            segments.setdefault(f"{name['rank']}-{name['start']}", []).append(path)
    found = [_read(name, paths, folder, key, with_steps) for name, paths in segments.items()]
    found = [one for one in found if len(one.requests)]
    require(bool(found), key, folder, "a folder with recordings in which requests ended (recording-*.jsonl)")
    return found


def largest(recordings: list[Recorded]) -> Recorded:
    """The start with the most requests: one engine's load, which no pause cuts."""
    return max(recordings, key=lambda recorded: len(recorded.requests))


def _read(name: str, paths: list[Path], folder: str, key: str, with_steps: bool) -> Recorded:
    rows: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    head: dict[str, Any] = {}
    steps, unread = StepTable(), 0
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                if line.startswith(b"[") and not with_steps:
                    continue
                record = whole_record(line)
                if record is None:
                    unread += 1
                elif isinstance(record, list):
                    steps.add(record)
                elif record["type"] == "recording":
                    found = record.get("format")
                    require(
                        found == FORMAT, key, folder, f"a recording in the format {FORMAT}; {path.name} says {found!r}"
                    )  # fmt: skip
                    head = head or record
                elif record["type"] in rows:
                    rows[record["type"]].append(_with_shared_keys(record))
    empty = not (steps.count or any(rows.values()))
    require(bool(head) or empty, key, folder, f"whole: {paths[0].name} has lost its first line")
    tables = (pd.DataFrame(rows[kind]) for kind in ("request", "arrival", "preempt"))
    return Recorded(name, head, *tables, steps.table(), rows["strategy"], unread)


def _with_shared_keys(record: dict[str, Any]) -> dict[str, Any]:
    """The parser makes new keys for each line, which are half of what it takes."""
    return {
        sys.intern(key): _with_shared_keys(value) if isinstance(value, dict) else value
        for key, value in record.items()
    }


class StepTable:
    """Grows by lists: as objects a day's steps would not fit in memory."""

    AT_ONCE = 20_000

    def __init__(self) -> None:
        self._rows: list[list[Any]] = []
        self._parts: list[pd.DataFrame] = []
        self.count = 0

    def add(self, row: list[Any]) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == self.AT_ONCE:
            self._pack()

    def table(self) -> pd.DataFrame:
        self._pack()
        return pd.concat(self._parts, ignore_index=True)

    def _pack(self) -> None:
        part = pd.DataFrame(self._rows, columns=list(STEP))
        self._parts.append(part.assign(cause=pd.Categorical(part["cause"], QUEUE)))
        self._rows = []
