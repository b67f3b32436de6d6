"""What a sweep shows while it runs: a bar on a terminal, and a line a run everywhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ray_jobs.drive.summary import Row

SHOWN = ("saturated", "degraded", "late_client")  # flags in the line of a run
SAID = ("prompt_counts", "other_clients")  # and remarks, in their own words


class SweepProgress:
    """Use as a context manager around the sweep."""

    def __init__(self, console: Console, total: int):
        self._bar = Progress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[current]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._console = console
        self._said: set[tuple[str, str]] = set()
        self._task = self._bar.add_task("runs", total=total, current="starting")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, name: str) -> None:
        self._bar.update(self._task, current=name)

    def engine_starts(self, name: str) -> None:
        text = f"{name}: the engine starts (a real one takes half a minute, or more)"
        self._bar.update(self._task, current=text)
        if not self._console.is_terminal:
            self._line(text)

    def engine_is_up(self, name: str, seconds: float) -> None:
        self._line(f"{name}: the engine was up after {seconds:.0f} s")
        self.started(name)

    def finished(self, name: str, row: Row) -> None:
        metrics = row.metrics
        flags = [f"[{flag.replace('_', ' ')}]" for flag in SHOWN if row.flags.get(flag) == "true"]
        flags += [f"[{row.flags[remark]}]" for remark in SAID if remark in row.flags]
        # Absent where the engine ran without the adapter: nobody counted.
        preempted = f"{metrics['preemptions']:.0f} preemptions, " if "preemptions" in metrics else ""
        self._line(
            f"{name}: {metrics.get('completion_rate', 0):.0%} of {metrics.get('requests', 0):.0f} requests ok, "
            f"{preempted}{metrics.get('throughput_tok_s', 0):.0f} tok/s " + " ".join(flags)
        )
        self._bar.advance(self._task)

    def reused(self, name: str) -> None:
        self._line(f"{name}: finished earlier, not run again")
        self._bar.advance(self._task)

    def failed(self, name: str, attempt: int, reason: str) -> None:
        self._line(f"{name}: attempt {attempt} failed: {reason}")

    def waiting(self, name: str, text: str) -> None:
        """What a run or the store waits for: once a text, however long it lasts."""
        self._bar.update(self._task, current=f"{name}: {text}")
        if (name, text) not in self._said:
            self._said.add((name, text))
            self._line(f"{name}: {text}")

    def _line(self, text: str) -> None:
        self._console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)
