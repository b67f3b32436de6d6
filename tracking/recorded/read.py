"""Reads a folder of recordings, as far as their segments are there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bidkv.adapters.shared.recording.engine import FORMAT
from bidkv.adapters.shared.recording.segments import NAME
from tracking.errors import require

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
        if name:
            segments.setdefault(f"{name['rank']}-{name['start']}", []).append(path)
    found = [_read(name, paths, folder, key, with_steps) for name, paths in segments.items()]
    found = [one for one in found if len(one.requests)]
    require(bool(found), key, folder, "a folder with recordings in which requests ended (recording-*.jsonl)")
    return found


def largest(recordings: list[Recorded]) -> Recorded:
    """The start with the most requests: one engine's load, which no pause cuts."""
    return max(recordings, key=lambda recorded: len(recorded.requests))


def _read(name: str, paths: list[Path], folder: str, key: str, with_steps: bool) -> Recorded:
    rows: dict[str, list[Any]] = {kind: [] for kind in (*KINDS, "step")}
    head: dict[str, Any] = {}
    unread = 0
    for path in paths:
        for line in path.read_bytes().split(b"\n"):
            if line.startswith(b"[") and not with_steps:
                continue
            try:
                record = json.loads(line) if line else None
            except ValueError:
                unread += 1
                continue
            if isinstance(record, list):
                rows["step"].append(record)
            elif record is not None and record.get("type") == "recording":
                require(
                    record["format"] == FORMAT, key, folder,
                    f"a recording in the format {FORMAT}; {path.name} says {record['format']!r}",
                )  # fmt: skip
                head = head or record
            elif record is not None and record.get("type") in rows:
                rows[record["type"]].append(record)
    require(
        bool(head) or not any(rows.values()), key, folder, f"whole: {paths[0].name} has lost its first line"
    )
    steps = pd.DataFrame(rows["step"], columns=head.get("steps"))
    return Recorded(
        name, head, pd.DataFrame(rows["request"]), pd.DataFrame(rows["arrival"]), pd.DataFrame(rows["preempt"]), steps,
        rows["strategy"], unread,
    )  # fmt: skip
