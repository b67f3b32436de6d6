"""What a sweep says while it runs: an engine's start is shown as such, on a terminal and in a log."""

from __future__ import annotations

import io

from rich.console import Console

from ray_jobs.drive.progress import SweepProgress


def test_a_log_has_a_line_before_and_one_after() -> None:
    console = Console(file=io.StringIO(), width=80)
    with SweepProgress(console, 2) as progress:
        progress.engine_starts("lcf seed=0")
        progress.engine_is_up("lcf seed=0", 31.4)
    starts, up = console.file.getvalue().splitlines()
    assert starts == "lcf seed=0: the engine starts (a real one takes half a minute, or more)"
    assert up == "lcf seed=0: the engine was up after 31 s"


def test_a_terminal_shows_that_the_engine_starts_and_then_the_run() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    with SweepProgress(console, 2) as progress:
        progress.engine_starts("lcf seed=0")
        progress._bar.refresh()
        shown = console.file.getvalue()
        assert "lcf seed=0: the engine starts (a real one takes half a minute, or more)" in shown
        progress.engine_is_up("lcf seed=0", 31.4)
        progress._bar.refresh()
    last = console.file.getvalue()[len(shown) :]
    assert "the engine was up after 31 s" in last and "the engine starts" not in last.splitlines()[-1]
