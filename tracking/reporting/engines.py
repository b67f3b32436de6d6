"""How busy the engines of a sweep were, and what was lost between their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracking.plots.engines import engines_figure
from tracking.reporting.page import Grid, Note, Picture, Section
from tracking.store.reader import StoredRun
from tracking.store.record import SERVED_TAGS


@dataclass(frozen=True)
class EngineUse:
    """What one engine did: `span_s` is from its first run to its last, `busy_s` the part in which it ran one."""

    name: str
    runs: int
    start_s: float  # until it could take the first run
    span_s: float
    busy_s: float

    @property
    def lost(self) -> float:
        """Share of the span that went by between runs."""
        return 1 - self.busy_s / self.span_s if self.span_s else 0.0


def served(run: StoredRun) -> tuple[float, float] | None:
    """None of runs that were stored before this was recorded."""
    if not all(tag in run.tags for tag in SERVED_TAGS):
        return None
    since, until = (float(run.tags[tag]) for tag in SERVED_TAGS)
    return since, until


def engine_name(run: StoredRun) -> str:
    """Host, GPUs and the engine's id."""
    gpus = f" GPU {run.tags['gpus']}" if "gpus" in run.tags else ""
    return f"{run.tags.get('host', '')}{gpus} ({run.tags.get('engine_id', '?')})"


def engine_uses(runs: Sequence[StoredRun]) -> list[EngineUse]:
    """Those of all runs that say when they were served, by name."""
    by_engine: dict[str, list[tuple[StoredRun, float, float]]] = {}
    for run in runs:
        times = served(run)
        if times is not None:
            by_engine.setdefault(engine_name(run), []).append((run, *times))
    uses = []
    for name, some in sorted(by_engine.items()):
        span = max(until for _, _, until in some) - min(since for _, since, _ in some)
        start_s = float(some[0][0].tags.get("engine_start_s", "nan"))
        uses.append(EngineUse(name, len(some), start_s, span, sum(until - since for _, since, until in some)))
    return uses


def runs_an_hour(uses: Sequence[EngineUse]) -> float:
    """Of all engines at once, starts left out: each one's runs over its own span."""
    return sum(3600 * use.runs / use.span_s for use in uses if use.span_s)


def engines_section(runs: Sequence[StoredRun]) -> Section | None:
    """None where no run says when it was served."""
    uses = engine_uses(runs)
    if not uses:
        return None
    busy, span = sum(use.busy_s for use in uses), sum(use.span_s for use in uses)
    sentence = (
        f"{len(uses)} engine{'s' * (len(uses) > 1)}, {runs_an_hour(uses):.0f} runs an hour together; "
        f"{1 - busy / span:.1%} of their time was lost between runs."
    )
    rows = [
        [u.name, str(u.runs), f"{u.start_s:.1f}", f"{u.span_s:.1f}", f"{u.busy_s:.1f}", f"{u.lost:.1%}"]
        for u in uses
    ]
    header = ["engine", "runs", "start, s", "first to last run, s", "in runs, s", "lost between runs"]
    timed = [(run, *times) for run in runs if (times := served(run))]
    first = min(since for _, since, _ in timed)
    bars = [(engine_name(run), run.strategy, since - first, until - first) for run, since, until in timed]
    caption = "A bar is a run. A row ends where its engine was given back; an interrupted sweep goes on with new engines."
    return Section(
        "Engines", [Note(sentence), Grid(header, rows), Picture("engines", engines_figure(bars), caption)]
    )
