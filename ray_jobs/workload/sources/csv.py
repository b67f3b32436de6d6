"""A log of one's own server: a CSV file with a line a request; when it arrived, its prompt and output tokens.

Names of columns are those of `workload.source.columns`, else the usual ones are looked for. Times are ISO 8601, or
seconds, milliseconds, microseconds or nanoseconds since any moment. A request without an output was not answered, and
is left out and counted. Prompts of one session begin alike: each goes on where the one before it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from csv import Error as SnifferError
from csv import Sniffer
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.source_config import ColumnsConfig, SourceConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, bad_record, in_order, source_file
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True
NEEDED = ("arrival", "prompt", "output")
USUAL = {
    "arrival": ("arrival", "arrival_s", "arrival_time", "arrived_at", "timestamp", "time", "ts", "start_time", "created_at"),
    "prompt": ("prompt_tokens", "input_tokens", "contexttokens", "prompt_length", "input_length", "prompt", "input"),
    "output": (
        "output_tokens", "completion_tokens", "generated_tokens", "generatedtokens", "response_tokens", "output_length",
        "output",
    ),
    "session": ("session", "session_id", "conversation", "conversation_id"),
    "kind": ("class", "kind"),
    "declared": ("max_tokens", "declared", "max_new_tokens", "max_completion_tokens"),
}  # fmt: skip
DELIMITERS = ",;\t|"
UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # numbers above the first are that many in a second


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
    return in_order(_drafts(read_log(config.source).table, config.name))


def facts(config: WorkloadConfig) -> dict[str, Any]:
    """What a trace of this file is told of it."""
    log = read_log(config.source)
    return {
        "file_rows": log.rows, "without_output": log.without_output, "without_prompt": log.without_prompt,
        "columns": log.columns, "span_s": float(log.table["seconds"].max()),
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
    table = pd.read_csv(source_file(path), sep=_delimiter(path), encoding="utf-8-sig")
    names = _names(source.columns, [str(name) for name in table.columns], path)
    found = pd.DataFrame({"seconds": _seconds(table[names["arrival"]], path)})
    for key in ("prompt", "output", "declared"):
        if key in names:
            found[key] = _counts(table[names[key]], path)
    for key in ("session", "kind"):
        if key in names:
            found[key] = table[names[key]].astype("string").fillna("")
    unanswered = ~(found["output"] >= 1)
    empty = ~unanswered & ~(found["prompt"] >= 1)
    usable = found[~unanswered & ~empty].reset_index(drop=True)
    require(
        len(usable) > 1, "workload.source.path", path,
        f"a log with answered requests: of {len(found)} rows {int(unanswered.sum())} have no output tokens and "
        f"{int(empty.sum())} no prompt tokens",
    )  # fmt: skip
    usable["seconds"] -= usable["seconds"].min()
    if "declared" in usable:
        usable["declared"] = usable["declared"].fillna(usable["output"])
    return Log(usable, len(found), int(unanswered.sum()), int(empty.sum()), names)


def _delimiter(path: str) -> str:
    with open(source_file(path), encoding="utf-8-sig") as file:
        header = file.readline()
    try:
        return Sniffer().sniff(header, DELIMITERS).delimiter
    except SnifferError:
        return ","  # one column: what is missing is said with its name


def _names(columns: ColumnsConfig, there: list[str], path: str) -> dict[str, str]:
    """The file's name of each column that is named, or has a usual name."""
    lower = {name.strip().lower(): name for name in there}
    found = {}
    for field in fields(columns):
        key, named = field.name, getattr(columns, field.name)
        if named is not None:
            require(named in there, f"workload.source.columns.{key}", named, f"one of {', '.join(there)}")
            found[key] = named
        else:
            usual = next((lower[name] for name in USUAL[key] if name in lower), None)
            if usual is not None and usual not in found.values():
                found[key] = usual
    missing = [key for key in NEEDED if key not in found]
    require(
        not missing, "workload.source.path", path,
        "a CSV file whose first line names its columns; say which has "
        + " and which ".join(f"{key}: workload.source.columns.{key}=NAME" for key in missing)
        + f" (the file has {', '.join(there)})",
    )  # fmt: skip
    return found


def _seconds(column: pd.Series, path: str) -> pd.Series:
    """Times in seconds, from any moment on."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all():
        unit = next((unit for least, unit in UNITS if numbers.max() > least), 1.0)
        return numbers / unit
    times = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
    wrong = times.isna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise bad_record(
            path, row + 1, f"{column.name}={column.iloc[row]!r} is no time: ISO 8601, or a number of seconds"
        )
    return (times - times.min()).dt.total_seconds()


def _counts(column: pd.Series, path: str) -> pd.Series:
    """Numbers, NaN where the cell is empty."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() & column.notna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise bad_record(path, row + 1, f"{column.name}={column.iloc[row]!r} is no number of tokens")
    return numbers
