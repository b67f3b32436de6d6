"""Plans jobs as one sweep, and has it carried out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from ray_jobs.drive.capacity import resolve_loads
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.interpreter import check_interpreters
from ray_jobs.drive.lengths import resolve_lengths
from ray_jobs.drive.plan import left_out_lines, plan_blocks, sweep_hash, window_lines, windows_of
from ray_jobs.drive.seeds import claim_seeds, frozen_jobs
from ray_jobs.drive.servers import resolve_servers
from tracking.cli import exit_on_bad_input
from tracking.imports import large_imports

if TYPE_CHECKING:
    from ray_jobs.drive.sweep import SweepOutcome

NARROW = 80  # columns


def run_sweep(jobs: Sequence[BenchConfig], baseline: str | None = None) -> SweepOutcome:
    """Plans and runs the jobs as one sweep and prints what came out, against `baseline` or the engine's own choices.

    Exits with 2, before anything starts, on what the user got wrong; with 1 if a run has no result in the
    store at the end.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=NARROW)
    with exit_on_bad_input():
        say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        check_interpreters(jobs)
        jobs = resolve_lengths(resolve_loads(resolve_servers(frozen_jobs(jobs), say), say), say)
        blocks = plan_blocks(jobs)
        claim_seeds(jobs, sweep_hash(blocks), windows=windows_of(blocks))
        for line in (*left_out_lines(blocks), *window_lines(blocks)):
            say(line)
    with large_imports():  # MLflow and figures: not before all is planned
        from ray_jobs.drive.carry_out import carry_out

    return carry_out(jobs, blocks, console, baseline)
