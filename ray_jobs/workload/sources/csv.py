"""A log of one's own server: a CSV file with a line a request; when it arrived, its prompt and output tokens.

Names of columns are those of `workload.source.columns`, else the usual ones are looked for. Times are ISO 8601, or
numbers: seconds since any moment, milliseconds, microseconds or nanoseconds since 1970, or what the column's name ends in
(`time_ms`). A request without an output was not answered, and is left out and counted. Prompts of one session begin alike:
each goes on where the one before it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.source_config import SourceConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, in_order, source_file
from ray_jobs.workload.sources.shared.log_cells import counts, seconds
from ray_jobs.workload.sources.shared.log_columns import NEEDED, columns_of, header_of
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True


@dataclass(frozen=True)
class Log:
    """`table` has a row a usable request: seconds, prompt, output, and session, kind and declared where there are such
    columns. `rows` are all of the file's; `columns` says which of its names were taken."""

    table: pd.DataFrame
    rows: int
    without_output: int
    without_prompt: int
    columns: dict[str, str]


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every answered request of the file in order of time."""
    log = read_log(config.source)
    require(
        config.arrivals.kind != "replay" or log.table["seconds"].max() > 0, "workload.source.path", config.source.path,
        f"a log whose requests arrive at different times: all have the same {log.columns['arrival']}",
    )  # fmt: skip
    return in_order(_drafts(log.table, config.name))


def facts(config: WorkloadConfig) -> dict[str, Any]:
    """What a trace of this file is told of it. `moments` are different times; `at_once` is how many requests one has."""
    log = read_log(config.source)
    times = log.table["seconds"].sort_values()
    return {
        "file_rows": log.rows, "without_output": log.without_output, "without_prompt": log.without_prompt,
        "columns": log.columns, "span_s": float(times.max()), "longest_gap_s": float(times.diff().max()),
        "moments": int(times.nunique()), "at_once": int(times.value_counts().max()),
    }  # fmt: skip


def _drafts(table: pd.DataFrame, name: str) -> Iterator[Draft]:
    for number, row in enumerate(table.to_dict("records")):
        session = row.get("session")
        segment = ("request", number) if session is None else ("session", str(session))
        declared = row.get("declared")
        yield Draft(
            str(row.get("kind", name)),
            SegmentPrompt((segment,), (int(row["prompt"]),), shared=session is not None),
            int(row["output"]),
            max_tokens=None if declared is None else max(1, int(declared)),
            recorded_s=row["seconds"],
        )


def read_log(source: SourceConfig) -> Log:
    """Raises ValueError, naming the key, the record or the names there are, on what cannot be read."""
    path = source.path
    delimiter, there = header_of(path)
    names = columns_of(source.columns, there, path)
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
