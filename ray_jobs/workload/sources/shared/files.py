"""Sources that are a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ray_jobs.workload.source_config import SourceConfig
from ray_jobs.workload.streams import stream
from tracking.errors import require


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
    """All of them in the order of `pick`: sorted (head), from a random place on (window), or shuffled.

    A path that is a file stands for itself.
    """
    if Path(source.path).expanduser().is_file():
        return [Path(source.path).expanduser()]
    files = source_folder(source.path, pattern)
    random = stream(seed, "pick")
    if source.pick == "head":
        return files
    if source.pick == "window":
        begin = int(random.integers(len(files)))
        return files[begin:] + files[:begin]
    return [files[place] for place in random.permutation(len(files))]
