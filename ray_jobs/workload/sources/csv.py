"""A log of one's own server: a CSV file with a line a request; when it arrived, its prompt and output tokens.

Names of columns are those of `workload.source.columns`, else the usual ones are looked for. Times are ISO 8601, or
numbers: seconds since any moment, milliseconds, microseconds or nanoseconds since 1970, or what the column's name ends in
(`time_ms`). A request without an output was not answered, and is left out and counted. Prompts of one session begin alike:
each goes on where the one before it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, in_order
from ray_jobs.workload.sources.shared.log import log_facts, read_log
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every answered request of the file in order of time."""
    log = read_log(config.source)
    require(
        config.arrivals.kind != "replay" or log.table["seconds"].max() > 0, "workload.source.path", config.source.path,
        f"a log whose requests arrive at different times: all have the same {log.columns['arrival']}",
    )  # fmt: skip
    return in_order(_drafts(log.table, config.name))


def facts(config: WorkloadConfig) -> dict[str, Any]:
    """What a trace of this file is told of it."""
    return log_facts(read_log(config.source))


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
