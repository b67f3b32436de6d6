"""The answer of a sweep that has just ended: compared as `conf/` declares it, and told to the store."""

from __future__ import annotations

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.sweep import SweepOutcome
from tracking.compare import compare_from_store
from tracking.config import declared_comparison
from tracking.evidence.comparison import Table
from tracking.reporting.answer import log_answer
from tracking.store.reader import RunReader
from tracking.store.upload import STORE_ERRORS


def sweep_answer(
    outcome: SweepOutcome, job: BenchConfig, baseline: str | None = None
) -> tuple[list[Table], str | None]:
    """The comparisons of the sweep's strategies; or none, and why there cannot be any."""
    if outcome.waiting:
        return [], "the store does not have all results yet"
    config = declared_comparison(job.tracking, outcome.sweep_id, baseline)
    try:
        _, tables = compare_from_store(config)
        log_answer(
            RunReader(config.tracking.uri, config.tracking.experiment).client, outcome.sweep_id, tables
        )
    except STORE_ERRORS as error:
        return [], " ".join(str(error).split())
    return tables, None
