"""The cells of a log as numbers: times in seconds, counts of tokens. What cannot be read is named with its record."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ray_jobs.workload.sources.shared.base import bad_record
from ray_jobs.workload.sources.shared.log_columns import split_unit

SIZES = (
    (1e17, 1e9),
    (1e14, 1e6),
    (1e11, 1e3),
)  # numbers above the first are that many in a second, since 1970
MOST_TOKENS = 10**8  # of a request; more is no count


def seconds(column: pd.Series, path: str) -> pd.Series:
    """Times in seconds, from any moment on. A column whose name ends in a unit, such as `time_ms`, has numbers of that.

    Raises ValueError for the first cell that is unlike the others.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    times = pd.to_datetime(column.where(numbers.isna()), format="ISO8601", errors="coerce", utc=True)
    if numbers.isna().all() and times.isna().all():
        _refuse(
            column, times.isna(), path, "is no time: ISO 8601 (2026-11-28T23:00:00Z), or a number of seconds"
        )
    if numbers.notna().sum() >= times.notna().sum():
        _refuse(
            column,
            ~np.isfinite(numbers),
            path,
            "is no time like the others, which are numbers: seconds, with a point",
        )
        named = split_unit(str(column.name))[1]
        unit = named or next((unit for least, unit in SIZES if numbers.max() > least), 1.0)
        return numbers / unit
    _refuse(
        column, times.isna(), path, "is no time like the others, which are ISO 8601: 2026-11-28T23:00:00Z"
    )
    return (times - times.min()).dt.total_seconds()


def counts(column: pd.Series, path: str) -> pd.Series:
    """Numbers of tokens, NaN where the cell is empty. Raises ValueError for the first cell that is none."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = (numbers.isna() & column.notna()) | (numbers.abs() > MOST_TOKENS)
    _refuse(column, wrong, path, "is no number of tokens")
    return numbers


def _refuse(column: pd.Series, wrong: pd.Series, path: str, what: str) -> None:
    """Records are counted from 1, without the line of names and empty lines."""
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        cell = column.iloc[place]
        said = f"{column.name} is empty" if pd.isna(cell) else f"{column.name}={str(cell)!r} {what}"
        raise bad_record(path, int(column.index[place]) + 1, said)
