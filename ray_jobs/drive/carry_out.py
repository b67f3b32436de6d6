"""Carries out a planned sweep, and prints what came out."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from rich.console import Console

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.next_steps import next_steps
from ray_jobs.drive.plan import PlannedRun
from ray_jobs.drive.progress import SweepProgress
from ray_jobs.drive.summary import summary_tables
from ray_jobs.drive.sweep import Sweep, SweepOutcome
from ray_jobs.drive.verdict import sweep_answer
from tracking.cli import exit_on_bad_input
from tracking.reporting.headline import headline
from tracking.reporting.rows import first_screen, opening

SCREENS = 4  # workloads and loads that are printed in full


def carry_out(
    jobs: Sequence[BenchConfig],
    blocks: Sequence[Sequence[PlannedRun]],
    console: Console,
    baseline: str | None,
) -> SweepOutcome:
    """Runs the blocks as one sweep and prints what came out, against `baseline` or the engine's own choices.

    Exits with 2 if the cluster or the store cannot take it; with 1 if a run has no result in the store at the end.
    """
    with SweepProgress(console, sum(map(len, blocks))) as progress:
        with exit_on_bad_input():
            sweep = Sweep(blocks, progress)
            sweep.prepare()
        try:
            outcome = sweep.run()
        except Exception:  # ours, not the user's
            traceback.print_exc()
            sys.exit(1)
    tables, refusal = sweep_answer(outcome, jobs[0], baseline)
    console.print()
    if refusal:
        console.print(f"no verdict: {refusal}\n", style="bold", markup=False, highlight=False)
    console.print(opening(tables), end="")
    if len(tables) <= SCREENS:
        for table in tables:
            console.print(first_screen(table))
        for means in summary_tables(outcome.rows):
            console.print(means)
    else:  # the rest is a command away
        for table in tables:
            console.print(f"{table.title}: {headline(table)}", markup=False, highlight=False)
    for what, text in next_steps(outcome, jobs, baseline):
        console.print(f"{what:<8} {text}", markup=False, highlight=False, soft_wrap=True)
    if outcome.taken_by is not None:
        print(f"error: this sweep was taken over by {outcome.taken_by}", file=sys.stderr)
    if outcome.failed or outcome.waiting or outcome.taken_by:
        sys.exit(1)
    return outcome
