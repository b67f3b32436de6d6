"""What the search shows while it runs: on a terminal a bar of the present part, elsewhere a line a part."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class AdviceProgress:
    """Use as a context manager; call it with what is done and how many runs of how many."""

    def __init__(self, console: Console, budget_s: float):
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn(f"of {budget_s:g} s"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._said: str | None = None
        self._task = self._bar.add_task("starting the simulators", total=None)

    def __enter__(self) -> AdviceProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=what, completed=done, total=total)
        if what != self._said and not self._console.is_terminal:
            self._console.print(f"{what}: {total} runs", highlight=False, soft_wrap=True)
        self._said = what
