"""Who pays: the same metrics for each class of requests (chat, summarisation, qa, ...)."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from tracking.metrics.catalogue import METRICS
from tracking.metrics.samples import share_of
from tracking.metrics.view import RunView
from tracking.result import RunResult

PER_CLASS = (
    "requests", "failed_share", "ttft_mean_s", "ttft_rmst_s", "e2e_mean_s", "e2e_rmst_s", "e2e_p90_s",
    "preemptions", "tokens_recomputed", "executed_tax", "deadline_miss_share",
)  # fmt: skip
CLASSES_FILE = "classes.json"  # the table as an artifact of its run


def class_metrics(result: RunResult) -> pd.DataFrame:
    """One row a class (`kind` of the requests), by name: the metrics `PER_CLASS` of its requests alone.

    `recomputed_share` is the class's part of all that the run recomputed. NaN where there is nothing to
    measure, inf where a percentile falls on requests that failed.
    """
    run = RunView(result)
    parts = {kind: run.of_kind(kind) for kind in sorted(run.requests["kind"].unique())}
    rows = [{name: METRICS[name](part) for name in PER_CLASS} for part in parts.values()]
    table = pd.DataFrame(rows, columns=list(PER_CLASS), index=pd.Index(parts, name="class"))
    recomputed = table["tokens_recomputed"]
    table["recomputed_share"] = [share_of(tokens, recomputed.sum()) for tokens in recomputed]
    return table


def classes_json(table: pd.DataFrame) -> str:
    """The table as text that MLflow shows; infinity as the word "inf", which JSON has no number for."""
    shown = table.astype(object).where(~np.isinf(table), "inf").reset_index()
    return shown.to_json(orient="split", index=False)


def read_classes(text: str) -> pd.DataFrame:
    """What `classes_json` was given."""
    split = json.loads(text)
    return pd.DataFrame(split["data"], columns=split["columns"]).set_index("class").astype(float)
