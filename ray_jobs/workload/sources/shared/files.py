"""Sources that are a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pandas as pd

from ray_jobs.workload.source_config import SourceConfig
from ray_jobs.workload.streams import stream
from tracking.errors import require

T = TypeVar("T")


def source_folder(path: str, pattern: str) -> list[Path]:
    """The files of a folder that match `pattern`, sorted by name; ValueError if there are none."""
    folder = Path(path).expanduser()
    files = sorted(folder.glob(pattern)) if folder.is_dir() else []
    require(bool(files), "workload.source.path", path, f"a folder with {pattern} files")
    return files


@contextmanager
def readable(path: str | None) -> Iterator[None]:
    """Says which file it was that cannot be read as what it should be (ValueError)."""
    try:
        yield
    except (UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        what = "text in UTF-8" if isinstance(error, UnicodeDecodeError) else "a table"
        raise ValueError(f"workload.source.path={path!r}: must be {what} ({error})") from None


def picked_files(source: SourceConfig, pattern: str, seed: int) -> list[Path]:
    """All of them in the order of `pick`: sorted (head), or shuffled. A path that is a file stands for itself.

    Raises ValueError for windows: how many files a seed takes depends on what is in them, so two would share some.
    """
    if Path(source.path).expanduser().is_file():
        return [Path(source.path).expanduser()]
    return picked(source, source_folder(source.path, pattern), seed)


def picked(source: SourceConfig, sessions: list[T], seed: int) -> list[T]:
    """All of them in the order of `pick`: as they are (head), or shuffled. Raises ValueError for windows."""
    require(
        source.pick != "window", "workload.source.pick", source.pick,
        f"random or head for sessions of {source.kind}: the windows of two seeds would share some",
    )  # fmt: skip
    if source.pick == "head":
        return sessions
    return [sessions[place] for place in stream(seed, "pick").permutation(len(sessions))]
