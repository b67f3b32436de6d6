"""What a metric is: a function of a run that carries its unit, its direction, its source and its meaning."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tracking.metrics.view import RunView

Better = Literal["lower", "higher", "none"]

CLIENT = "client clock"
ENGINE = "engine's own word"
EVENTS = "preemption events"
RECORDS = "engine request records"
STEPS = "engine steps"

SYMBOLS = {
    "us": "µs", "share": "%", "index": "", "ratio": "", "preemptions": "", "requests": "", "sessions": "", "errors": "",
}  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One number of a run. `source` says who measured it, `doc` what it is, `title` how tables name it.

    Called with a `RunView` it gives the value: NaN where the run cannot have it, inf where it falls on
    requests that failed. What only the engine's records tell is NaN, not 0, where there are none.
    """

    name: str
    unit: str
    better: Better
    source: str
    doc: str
    title: str
    measure: Callable[[RunView], float]

    def __call__(self, run: RunView) -> float:
        if self.name in run.result.counted:
            return run.result.counted[self.name]
        known = run.result.recorded or self.source in (CLIENT, ENGINE)
        return float(self.measure(run)) if known else math.nan

    @property
    def symbol(self) -> str:
        """The unit as figures and tables write it; empty for counts and ratios."""
        return SYMBOLS.get(self.unit, self.unit)


def metric(
    unit: str, better: Better, source: str, title: str | None = None
) -> Callable[[Callable[[RunView], float]], Metric]:
    """Makes a metric of a function: named like it, and explained by its docstring."""

    def make(function: Callable[[RunView], float]) -> Metric:
        name = function.__name__
        doc = " ".join(inspect.getdoc(function).split())
        return Metric(name, unit, better, source, doc, title or name.replace("_", " "), function)

    return make
