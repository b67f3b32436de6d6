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

TABLES = ("request", "arrival", "preempt")


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
    def server(self) -> str:
        """Which engine it is of, and its model; ranks of one server have the same."""
        return " ".join(self.head[key] for key in ("engine", "engine_version", "model"))

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
    tables = {kind: Rows() for kind in TABLES}
    head: dict[str, Any] = {}
    strategies: list[dict[str, Any]] = []
    steps, unread = Steps(), 0
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
                elif record["type"] == "strategy":
                    strategies.append(record)
                elif record["type"] in tables:
                    tables[record["type"]].add(_with_shared_keys(record))
    empty = not (strategies or any(table.count for table in (steps, *tables.values())))
    require(bool(head) or empty, key, folder, f"whole: {paths[0].name} has lost its first line")
    return Recorded(
        name, head, *(table.table() for table in tables.values()), steps.table(), strategies, unread
    )


def _with_shared_keys(record: dict[str, Any]) -> dict[str, Any]:
    """The parser makes new keys for each line, which are half of what it takes."""
    return {
        sys.intern(key): _with_shared_keys(value) if isinstance(value, dict) else value
        for key, value in record.items()
    }


class Rows:
    """A table that grows by rows, packed a few thousand at a time: as objects a day's records would not fit in memory."""

    AT_ONCE = 20_000

    def __init__(self) -> None:
        self._rows: list[Any] = []
        self._parts: list[pd.DataFrame] = []
        self.count = 0

    def add(self, row: Any) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == self.AT_ONCE:
            self._parts.append(self._packed(self._rows))
            self._rows = []

    def table(self) -> pd.DataFrame:
        """Empties it: the parts go while the whole is put together."""
        parts, self._parts = self._parts, []
        if self._rows or not parts:  # one without rows would make objects of all numbers
            parts.append(self._packed(self._rows))
        return pd.concat(parts, ignore_index=True)

    def _packed(self, rows: list[Any]) -> pd.DataFrame:
        return pd.DataFrame(rows)


class Steps(Rows):
    """Whole numbers in four bytes each, where they fit."""

    def _packed(self, rows: list[Any]) -> pd.DataFrame:
        part = pd.DataFrame(rows, columns=list(STEP)).assign(
            cause=lambda part: pd.Categorical(part["cause"], QUEUE)
        )
        return part.astype({name: "int32" for name in STEP[2:-1] if _fits(part[name])})


def _fits(numbers: pd.Series) -> bool:
    """Whole, and none that four bytes cannot hold: it would become another one."""
    return pd.api.types.is_integer_dtype(numbers) and bool(numbers.abs().max() < 2**31)
