"""The answer in a sentence: which strategy is better, by how much, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracking.evidence.comparison import Comparison, Table
from tracking.evidence.guardrails import GuardrailCheck
from tracking.metrics.catalogue import METRICS
from tracking.reporting.words import effect, short_name, size, times

NAMED = 3  # strategies named in one clause; of more, the number
ORDER = ("broken", "unsure", "not measured", "held")


def headline(table: Table) -> str:
    """A sentence about one table; the same words that `tracking.evidence` gave, for the primary metric."""
    if table.state == "no pressure":
        return "nobody was preempted: these runs say nothing about victims"
    rows = [row for name in table.strategies if (row := table.find(table.primary, name))]
    if not rows:
        return f"{short_name(table.primary)} was not measured: no verdict"
    alone = all(row.strategy in table.controls for row in rows)
    rows = [row for row in rows if row.strategy not in table.controls]
    if alone:
        return f"nothing but {table.baseline} against itself (A/A): no verdict"
    better = sorted((c for c in rows if c.verdict == "better"), key=_gain)
    winners = [c for c in better if not _broken(table, c)]
    clauses = [_winner(table, winners[0])] if winners else [_nobody(table, rows)]
    if winners[1:]:
        clauses.append(_listed([f"{c.strategy} {effect(c.test, c.metric)}" for c in winners[1:]]) + " too")
    clauses += _listed_each(
        [
            f"{c.strategy} is {_improved(c.metric)} but breaks {_breaks(table, c)}"
            for c in better
            if c not in winners
        ]
    )
    worse = [c.strategy for c in rows if c.verdict == "worse"]
    if worse:
        clauses.append(f"worse: {_listed(worse)}")
    broken = [c.strategy for c in rows if c not in better and c.strategy not in worse and _broken(table, c)]
    if broken:
        clauses.append(f"guardrails broken: {_listed(broken)}")
    return "; ".join(clauses)


def _winner(table: Table, row: Comparison) -> str:
    parts = [f"{row.strategy}: {short_name(row.metric)} {effect(row.test, row.metric)}"]
    checks = table.guards(row.strategy)
    if checks and all(check.status == "held" for check in checks):
        return f"{parts[0]}, guardrails held"
    for status in ORDER:
        names = [short_name(check.metric) for check in checks if check.status == status]
        if names:
            parts.append(f"{_joined(names)} {status}")
    return ", ".join(parts)


def _nobody(table: Table, rows: Sequence[Comparison]) -> str:
    name = short_name(table.primary)
    if all(row.verdict == "too few runs" for row in rows):
        pairs = max(row.test.pairs for row in rows)
        return f"too few runs to say what is better than {table.baseline} in {name} ({pairs} pairs)"
    if all(row.verdict == "equivalent" for row in rows):
        return f"no difference that matters from {table.baseline} in {name}"
    if any(row.verdict == "better" for row in rows):
        return f"none is better than {table.baseline} in {name} with its guardrails kept"
    weakest = max(rows, key=lambda row: np.nan_to_num(row.smallest_shown, nan=-1.0, posinf=np.inf))
    seen = size(weakest.test, table.primary, weakest.family)
    hidden = f" (a difference under {seen} would not show)" if seen[0].isdigit() else ""
    return f"none is shown to be better than {table.baseline} in {name}{hidden}"


def _breaks(table: Table, row: Comparison) -> str:
    checks = _broken(table, row)
    return _joined([short_name(c.metric) + (f" ({times(c.ratio)})" if c.ratio else "") for c in checks])


def _broken(table: Table, row: Comparison) -> list[GuardrailCheck]:
    return [check for check in table.guards(row.strategy) if check.status == "broken"]


def _improved(metric: str) -> str:
    return "faster" if METRICS[metric].unit in ("s", "s/token", "us") else "better"


def _gain(row: Comparison) -> float:
    """Smaller is better, whatever the metric's direction."""
    return row.test.effect.value * (-1 if METRICS[row.metric].better == "higher" else 1)


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _listed_each(clauses: Sequence[str]) -> list[str]:
    more = len(clauses) - NAMED
    return [*clauses[:NAMED], *([f"{more} more are better and break a guardrail"] if more > 0 else [])]
