"""Plans and runs jobs as one sweep, and prints what came out."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from ray_jobs.drive.capacity import resolve_loads
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import plan_blocks
from ray_jobs.drive.progress import SweepProgress
from ray_jobs.drive.summary import summary_tables
from ray_jobs.drive.sweep import Sweep, SweepOutcome
from tracking.cli import exit_on_bad_input

LOG_WIDTH = 160  # columns of what goes into a file or a pipe


def run_sweep(jobs: Sequence[BenchConfig]) -> SweepOutcome:
    """Plans and runs the jobs as one sweep and prints what came out.

    Exits with 2, before anything starts, on what the user got wrong; with 1 if a run has no result in the
    store at the end.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    with exit_on_bad_input():
        jobs = resolve_loads(jobs, partial(console.print, markup=False, highlight=False, soft_wrap=True))
        blocks = plan_blocks(jobs)
    with SweepProgress(console, sum(map(len, blocks))) as progress:
        with exit_on_bad_input():
            sweep = Sweep(blocks, progress)
            sweep.prepare()
        try:
            outcome = sweep.run()
        except Exception:  # ours, not the user's
            traceback.print_exc()
            sys.exit(1)
    for table in summary_tables(outcome.rows):
        console.print(table)
    waiting = (
        outcome.waiting
        and f"{outcome.waiting} results are in {jobs[0].tracking.spool}; python -m ray_jobs.upload"
    )
    lines = {
        "figure": outcome.figure,
        "compare": f"python -m tracking.compare sweep={outcome.sweep_id[:8]} baseline=preempt-evict",
        "report": f"python -m tracking.report sweep={outcome.sweep_id[:8]} baseline=preempt-evict",
        "browse": f"mlflow ui --backend-store-uri {jobs[0].tracking.uri}",
        "failed": "; ".join(outcome.failed),
        "waiting": waiting,
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:<8} {text}", markup=False, highlight=False, soft_wrap=True)
    if outcome.failed or outcome.waiting:
        sys.exit(1)
    return outcome
