"""What a sweep's parent run says of it in MLflow: the verdict in words, and pooled numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from tracking.evidence.blocks import NO_VERDICT
from tracking.evidence.outcomes import outcome
from tracking.evidence.paired import Table
from tracking.evidence.pooled import COLUMNS, strategy_p99
from tracking.reporting.headline import headline, overall
from tracking.reporting.in_short import in_short
from tracking.store.columns import ANSWER

DESCRIPTION = "mlflow.note.content"  # the tag that MLflow shows as a run's description
BATCH_LIMIT = 1000  # metrics a request, MLflow's own limit
LONGEST_TITLE = 120  # of a table, in a metric's name; MLflow takes 250 characters with the rest


def log_answer(client: MlflowClient, sweep_id: str, tables: Sequence[Table]) -> None:
    """Logs on the parent run: a sentence for each table as its description, the answer in short and the state of
    every guardrail as tags, and of every strategy the primary metric's mean and the pooled p99s with their intervals.

    Metrics are named "workload and load/strategy/metric"; ends of intervals have ".low" and ".high".
    """
    lead = overall(tables)
    text = f"{lead}.\n\n" if lead else ""
    text += "\n\n".join(f"{table.title}, against {table.baseline}: {headline(table)}." for table in tables)
    short = in_short(tables)
    tags = [RunTag(DESCRIPTION, text), *([RunTag(ANSWER, short)] if short else [])]
    for table in tables:
        for check in table.guardrails:
            tags.append(RunTag(_name(table, check.strategy, f"guardrail {check.metric}"), check.status))
    now = int(time.time() * 1000)
    numbers = {name: value for table in tables for name, value in pooled_numbers(table)}
    metrics = [Metric(name, value, now, 0) for name, value in numbers.items() if np.isfinite(value)]
    for start in range(0, max(len(metrics), 1), BATCH_LIMIT):
        client.log_batch(sweep_id, metrics=metrics[start : start + BATCH_LIMIT])
    for start in range(0, len(tags), 100):
        client.log_batch(sweep_id, tags=tags[start : start + 100])


def pooled_numbers(table: Table) -> Iterator[tuple[str, float]]:
    """(name, value) of the strategies' pooled numbers, the baseline's first; inf after failures."""
    blocks = list(table.blocks.values())
    for strategy in (table.baseline, *table.strategies):
        runs = [run for block in blocks for run in block.get(strategy, ())]  # with those that failed
        values = [value for run in runs if (value := outcome(run, table.primary)) is not None]
        if values:
            yield _name(table, strategy, table.primary), float(np.mean(values))
        for metric in COLUMNS:
            p99 = strategy_p99(blocks, strategy, metric)
            if p99 is not None:
                name = _name(table, strategy, metric)
                yield from ((name, p99.value), (f"{name}.low", p99.low), (f"{name}.high", p99.high))


def _name(table: Table, strategy: str, what: str) -> str:
    """Only characters that MLflow takes in a name, and no more of them; a second table of the same load says its state."""
    title = table.title + (f" ({table.state})" if table.state in NO_VERDICT else "")
    if len(title) > LONGEST_TITLE:  # of cells that differ in a dozen settings
        title = f"{title[: LONGEST_TITLE - 9]} {sha256(title.encode()).hexdigest()[:8]}"
    return re.sub(r"[^\w\-. /:]", "_", f"{title}/{strategy}/{what}")
