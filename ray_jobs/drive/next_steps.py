"""What can be done with a sweep that ended: commands that work as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.sweep import SweepOutcome
from tracking.evidence.baseline import default_baseline
from tracking.store.address import page_of, short, table_of
from tracking.store.config import TrackingConfig


def next_steps(
    outcome: SweepOutcome, jobs: Sequence[BenchConfig], baseline: str | None = None
) -> list[tuple[str, str]]:
    """(what, command or place), in the order in which they are printed."""
    tracking = jobs[0].tracking
    labels = list(dict.fromkeys(row.strategy for row in outcome.rows))
    steps: list[tuple[str, str]] = []
    if outcome.figure:
        steps.append(("figure", outcome.figure))
    if outcome.frontier:
        steps.append(("", outcome.frontier))
    if labels and not outcome.waiting:
        chosen = [
            "sweep=" + short(outcome.sweep_id),
            "baseline=" + (baseline or default_baseline(labels)),
            *store_of(tracking),
        ]
        overrides = shlex.join(chosen)
        comparable = len(labels) > 1 and len({job.seed for job in jobs}) > 1
        more = "a verdict needs two strategies and several seeds: strategy=stock,lcf-guard 'seed=range(8)'"
        steps.append(("compare", f"bidkv-compare {overrides}" if comparable else more))
        steps.append(("report", f"bidkv-report {overrides}"))
    here = page_of(tracking.uri, outcome.experiment_id, outcome.sweep_id)
    if tracking.uri.startswith(("http://", "https://")):
        steps.append(("browse", here))
    else:
        steps += [
            ("browse", f"mlflow ui --backend-store-uri {shlex.quote(tracking.uri)}"),
            ("", f"this sweep {here}"),
        ]
    steps.append(("", f"all runs   {table_of(tracking.uri, outcome.experiment_id)}"))
    if outcome.failed:
        steps.append(("failed", "; ".join(outcome.failed)))
    if outcome.waiting:
        steps.append(("waiting", f"{outcome.waiting} results are in {tracking.spool}; bidkv-upload"))
    return steps


def store_of(tracking: TrackingConfig) -> list[str]:
    """The overrides with which another command finds this store; none if it is the one by default."""
    default = TrackingConfig()
    keys = ("uri", "experiment")
    return [
        f"tracking.{key}={getattr(tracking, key)}"
        for key in keys
        if getattr(tracking, key) != getattr(default, key)
    ]
