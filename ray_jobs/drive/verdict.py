"""The answer of a sweep that has just ended: compared as `conf/` declares it, and told to the store."""

from __future__ import annotations

from pathlib import Path

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.sweep import SweepOutcome
from tracking.compare import compare_from_store
from tracking.config import declared_comparison
from tracking.evidence.paired import Table
from tracking.reporting.answer import log_answer
from tracking.reporting.figures import frontier_figure
from tracking.reporting.page import png
from tracking.reporting.summary import hardest, pressed_tables
from tracking.store.address import short
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
        client = RunReader(config.tracking.uri, config.tracking.experiment).client
        log_answer(client, outcome.sweep_id, tables)
        pressed = pressed_tables(tables)
        if pressed:
            path = Path(job.figures) / f"{short(outcome.sweep_id)}-frontier.png"
            path.write_bytes(png(frontier_figure(hardest(pressed))))
            client.log_artifact(outcome.sweep_id, str(path))
            outcome.frontier = str(path)
    except STORE_ERRORS as error:
        return [], " ".join(str(error).split())
    return tables, None
