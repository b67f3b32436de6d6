"""The combinations of a sweep: how many there are, and a bar while each is composed and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def combinations(params: Mapping[str, Any] | None, overrides: Sequence[str]) -> int:
    """How many jobs an experiment's `hydra.sweeper.params` and what was typed make; as Hydra's sweeper counts."""
    words = [f"{key}={value}" for key, value in (params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*words, *overrides])
    last = {
        override.get_key_element(): override for override in parsed
    }  # what is typed replaces the experiment's
    return len(BasicSweeper.split_arguments(list(last.values()), None)[0])


class PlanningBar:
    """On a terminal only; it leaves nothing behind."""

    def __init__(self, console: Console, total: int):
        self._bar = Progress(
            TextColumn("planning"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("planning", total=total)
        self._bar.start()

    def one_more(self) -> None:
        self._bar.advance(self._task)

    def end(self) -> None:
        self._bar.stop()
