"""A log as a table: a row a request that can be used, and how many there were."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from ray_jobs.workload.source_config import ColumnsConfig, SourceConfig
from ray_jobs.workload.sources.shared.base import source_file
from ray_jobs.workload.sources.shared.log_cells import counts, seconds
from ray_jobs.workload.sources.shared.log_columns import NEEDED, columns_of, header_of
from tracking.errors import require


@dataclass(frozen=True)
class Log:
    """`table` has a row a usable request: seconds, prompt, output, and session, kind and declared where there are such
    columns. `rows` are all of the file's; `columns` says which of its names were taken."""

    table: pd.DataFrame
    rows: int
    without_output: int
    without_prompt: int
    columns: dict[str, str]


def log_facts(log: Log) -> dict[str, Any]:
    """What a trace is told of its log. `moments` are different times; `at_once` is how many requests one has."""
    times = log.table["seconds"].sort_values()
    return {
        "file_rows": log.rows, "without_output": log.without_output, "without_prompt": log.without_prompt,
        "columns": log.columns, "span_s": float(times.max()), "longest_gap_s": float(times.diff().max()),
        "moments": int(times.nunique()), "at_once": int(times.value_counts().max()),
    }  # fmt: skip


def read_log(source: SourceConfig) -> Log:
    """Raises ValueError, naming the key, the record or the names there are, on what cannot be read."""
    state = source_file(source.path).stat()
    return _read(source.path, astuple(source.columns), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read(path: str, columns: tuple[str | None, ...], changed_ns: int, size: int) -> Log:
    """Kept for the next trace of it, since a log may be long; a file that was changed is another."""
    delimiter, there = header_of(path)
    names = columns_of(ColumnsConfig(*columns), there, path)
    table = _cells(path, delimiter, there)[list(dict.fromkeys(names.values()))]
    table = table[table[[names[key] for key in NEEDED]].notna().any(axis=1)]  # a sheet's empty rows
    found = pd.DataFrame({"seconds": seconds(table[names["arrival"]], path)})
    for key in ("prompt", "output", "declared"):
        if key in names:
            found[key] = counts(table[names[key]], path)
    for key in ("session", "kind"):
        if key in names:
            found[key] = table[names[key]].fillna("")
    unanswered = ~(found["output"] >= 1)
    empty = ~unanswered & ~(found["prompt"] >= 1)
    usable = found[~unanswered & ~empty].reset_index(drop=True)
    require(
        len(usable) > 1, "workload.source.path", path,
        f"a log with two answered requests at least: of {len(found)} rows {int(unanswered.sum())} have no output tokens "
        f"and {int(empty.sum())} no prompt tokens",
    )  # fmt: skip
    usable["seconds"] -= usable["seconds"].min()
    if "declared" in usable:
        usable["declared"] = usable["declared"].fillna(usable["output"])
    return Log(usable, len(found), int(unanswered.sum()), int(empty.sum()), names)


def _cells(path: str, delimiter: str, there: list[str]) -> pd.DataFrame:
    """All cells as text. Raises ValueError if rows have more fields than names: pandas would shift them."""
    table = pd.read_csv(
        source_file(path), sep=delimiter, encoding="utf-8-sig", dtype=str, skipinitialspace=True
    )
    require(
        isinstance(table.index, pd.RangeIndex), "workload.source.path", path,
        f"a table whose rows have as many fields as its first line has names, {len(there)}; "
        f"a field with {delimiter!r} in it stands in quotes",
    )  # fmt: skip
    table.columns = there
    return table
