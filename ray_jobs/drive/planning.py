"""The combinations of a sweep: how many there are, and a bar while each is composed and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tracking.errors import require_one_of

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def combinations(params: Mapping[str, Any] | None, overrides: Sequence[str]) -> int:
    """How many jobs an experiment's `hydra.sweeper.params` and what was typed make; as Hydra's sweeper counts."""
    words = [f"{key}={value}" for key, value in (params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*words, *overrides])
    last = {
        override.get_key_element(): override for override in parsed
    }  # what is typed replaces the experiment's
    return len(BasicSweeper.split_arguments(list(last.values()), None)[0])


def refuse_odd_sweeps(overrides: Sequence[str], options: Callable[[str], list[str]]) -> None:
    """Raises ValueError for a swept key that has no value, or one twice, or a name that its group has not: nothing would run,
    or the same again, and the last shows only after others were composed. `options` has the names of a group, wherever
    Hydra finds them; none for what is no group."""
    for word, override in zip(
        overrides, OverridesParser.create().parse_overrides(list(overrides)), strict=True
    ):
        if not override.is_sweep_override():
            continue
        values = list(override.sweep_string_iterator())
        if not values:
            raise ValueError(f"{word}: has no value, so nothing would run; seed=range(8) are 0 to 7")
        names = options(override.key_or_group)
        for value in values if names else ():
            require_one_of(override.key_or_group, value, names)
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(
                f"{word}: has {twice} twice, and both would be the same run; repeat=0,1 runs all twice"
            )


LONG = 100  # runs: composing them takes most of a minute, and more on a busy machine


class PlanningBar:
    """On a terminal, and it leaves nothing behind there; elsewhere a line, if there is much to plan."""

    def __init__(self, console: Console, total: int):
        if total >= LONG and not console.is_terminal:
            console.print(f"planning {total} runs: each is composed and checked before the first one starts")
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
