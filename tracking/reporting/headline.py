"""The answer in a sentence: which strategy is better, by how much, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracking.evidence.blocks import NO_VERDICT, saturated_seeds
from tracking.evidence.guardrails import GuardrailCheck
from tracking.evidence.outcomes import LARGEST
from tracking.evidence.paired import Comparison, Table
from tracking.evidence.pooled import COLUMNS
from tracking.metrics.catalogue import METRICS
from tracking.reporting.words import effect, short_name, size, times
from tracking.strategies import in_order

NAMED = 3  # strategies named in one clause; of more, the number
TAIL_SAFE, HELD, UNSURE, BROKEN = range(4)  # in the order in which winners are named
ORDER = ("broken", "unsure", "not measured", "held")


def headline(table: Table) -> str:
    """A sentence about one table, after one on overload if there is any; the same words that `tracking.evidence`
    gave, for the primary metric."""
    if table.state == "no pressure":
        return "nobody waited for memory or was preempted: these runs say nothing about strategies"
    if table.state == "late client":
        return "the client was late: these runs say nothing about engines"
    return _overload(table) + _sentence(table)


def _overload(table: Table) -> str:
    """What stands before everything else where the load is more than is served."""
    if table.state != "saturated":
        return ""
    full = saturated_seeds(table.blocks, table.baseline)
    return (
        f"Saturated in {len(full)} of {len(table.blocks)} seeds: more came than {table.baseline} serves, and latencies "
        f"grow with the length of the run{_served(table)}. "
    )


def _served(table: Table) -> str:
    """What counts in overload instead: who is served in time, and who is not at all."""
    parts = []
    for metric, words in (("slo_attainment", "within the SLO"), ("failed_share", "not served")):
        rows = [row for name in table.strategies if (row := table.find(metric, name))]
        if rows:
            shares = [f"{table.baseline} {rows[0].test.baseline_mean:.0%}"]
            shares += [f"{row.strategy} {row.test.mean:.0%}" for row in rows[:NAMED]]
            parts.append(f"{words}: {', '.join(shares)}")
    return f"; {'; '.join(parts)}" if parts else ""


def _sentence(table: Table) -> str:
    rows = [row for name in table.strategies if (row := table.find(table.primary, name))]
    if not rows:
        return f"no seed has {short_name(table.primary)} of {table.baseline} and of another: no verdict"
    alone = all(row.strategy in table.controls for row in rows)
    rows = [row for row in rows if row.strategy not in table.controls]
    if alone:
        return f"nothing but {table.baseline} against itself (A/A): no verdict"
    better = sorted((c for c in rows if c.verdict == "better"), key=lambda c: (standing(table, c), gain(c)))
    winners = [c for c in better if standing(table, c) != BROKEN]
    clauses = [_winner(table, winners[0])] if winners else [_nobody(table, rows)]
    for doubtful in (False, True):
        others = [c for c in winners[1:] if (standing(table, c) == UNSURE) == doubtful]
        named = _listed([f"{c.strategy} {effect(c.test, c.metric)}" for c in others])
        if others:
            clauses.append(
                f"better, but not shown to keep its guardrails: {named}" if doubtful else f"{named} too"
            )
    clauses += _listed_each(
        [
            f"{c.strategy} is {_improved(c.metric)} but breaks {_breaks(table, c)}"
            for c in better
            if c not in winners
        ],
        "better, and break a guardrail",
    )
    worse = [c.strategy for c in rows if c.verdict == "worse"]
    if worse:
        clauses.append(f"worse: {_listed(worse)}")
    broken = [c.strategy for c in rows if c not in better and c.strategy not in worse and _broken(table, c)]
    if broken:
        clauses.append(f"guardrails broken: {_listed(broken)}")
    clauses += _listed_each(
        [f"{c.strategy}: {', '.join(c.caveats)}" for c in rows if c.caveats and c not in winners[:1]]
    )
    if table.late_seeds:
        clauses.append(
            f"{len(table.late_seeds)} more seeds left out: the client of {table.baseline} was late"
        )
    return "; ".join(clauses)


def overall(tables: Sequence[Table]) -> str | None:
    """A sentence about several tables, by how often each strategy is better; None if only one has a verdict."""
    pressed = [table for table in tables if table.state not in NO_VERDICT]
    if len(pressed) < 2:
        return None
    scores = [_Score.of(pressed, name) for name in in_order(name for t in pressed for name in t.strategies)]
    scores = sorted((score for score in scores if score), key=_Score.rank)
    best = [score for score in scores if score.clean]
    rows = [row for table in pressed for name in table.strategies if (row := table.find(table.primary, name))]
    if rows and all(row.verdict == "too few runs" for row in rows):
        return f"{_nobody(pressed[0], rows)} in any of {len(pressed)} loads"
    where, metric = f"{len(pressed)} loads", short_name(pressed[0].primary)
    clauses = [
        f"none is better than {pressed[0].baseline} in {metric} in any of {where} with its guardrails kept"
    ]
    if best:
        first = best[0]
        clauses = [
            f"{first.strategy}: better in {len(first.clean)} of {where}, {first.kept}, {metric} {first.span}"
            + (f", worse in {first.worse}" if first.worse else ", worse in none")
        ]
    if best[1:]:
        clauses.append("then " + _listed([f"{score.strategy} ({len(score.clean)})" for score in best[1:]]))
    costly = [f"{score.strategy} ({score.broken})" for score in scores if score.broken]
    if costly:
        clauses.append(f"faster but with a guardrail broken: {_listed(costly)}")
    worse = [f"{score.strategy} ({score.worse})" for score in scores if score.worse and score not in best[:1]]
    if worse:
        clauses.append(f"worse: {_listed(worse)}")
    return "; ".join(clauses)


@dataclass(frozen=True)
class _Score:
    """How a strategy did over several loads: where it is better with (`clean`) and without its guardrails."""

    strategy: str
    clean: list[Comparison]
    tail_safe: int
    held: int  # of `clean`, those whose guardrails are all shown to be kept
    broken: int
    worse: int
    guarded: bool  # whether there are guardrails at all

    @classmethod
    def of(cls, tables: Sequence[Table], strategy: str) -> _Score | None:
        """None for a control, and for a strategy that was never compared."""
        found = [
            (t, row) for t in tables if (row := t.find(t.primary, strategy)) and strategy not in t.controls
        ]
        better = [(table, row) for table, row in found if row.verdict == "better"]
        kept = [(table, row) for table, row in better if standing(table, row) != BROKEN]
        held = sum(standing(table, row) <= HELD for table, row in kept)
        tail_safe = sum(standing(table, row) == TAIL_SAFE for table, row in kept)
        worse = sum(row.verdict == "worse" for _, row in found)
        clean = [row for _, row in kept]
        guarded = any(table.guards(strategy) for table, _ in found)
        return (
            cls(strategy, clean, tail_safe, held, len(better) - len(clean), worse, guarded) if found else None
        )

    def rank(self) -> tuple[int, int, int, float]:
        """Smaller is better: whose tail is safe in most loads stands first."""
        return -self.tail_safe, -len(self.clean), self.worse, sum(map(gain, self.clean))

    @property
    def kept(self) -> str:
        """What is known of its guardrails where it is better, and in how many loads there is more to hear."""
        heard = sum(bool(row.caveats) for row in self.clean)
        text = (
            "no guardrails"
            if not self.guarded
            else "guardrails held"
            if self.held == len(self.clean)
            else f"guardrails not broken (held in {self.held})"
        )
        return text + (f", with reservations in {heard}" if heard else "")

    @property
    def span(self) -> str:
        """The effects where it is better, from the largest to the smallest."""
        shown = [effect(row.test, row.metric).split(" [")[0] for row in sorted(self.clean, key=gain)]
        return shown[0] if shown[0] == shown[-1] else f"{shown[0]} to {shown[-1]}"


def _winner(table: Table, row: Comparison) -> str:
    heard = f" ({', '.join(row.caveats)})" if row.caveats else ""
    parts = [f"{row.strategy}: {short_name(row.metric)} {effect(row.test, row.metric)}{heard}"]
    checks = table.guards(row.strategy)
    for status in ("unsure", "not measured"):
        some = [check for check in checks if check.status == status]
        if some:
            sizes = ", ".join(times(check.ratio) for check in some if check.ratio)
            names = _joined([short_name(check.metric) for check in some])
            but = "but " if len(parts) == 1 else ""
            parts.append(f"{but}{names} {status}" + (f" ({sizes})" if sizes else ""))
    if any(check.status == "held" for check in checks):
        parts.append("other guardrails held" if len(parts) > 1 else "guardrails held")
    if is_tail_safe(checks):
        parts.append("tail-safe")
    return ", ".join(parts)


def standing(table: Table, row: Comparison) -> int:
    """What is known of the guardrails of a strategy: TAIL_SAFE, HELD, UNSURE (or not measured) or BROKEN."""
    checks = table.guards(row.strategy)
    if any(check.status == "broken" for check in checks):
        return BROKEN
    if any(check.status != "held" for check in checks):
        return UNSURE
    return TAIL_SAFE if is_tail_safe(checks) else HELD


def is_tail_safe(checks: Sequence[GuardrailCheck]) -> bool:
    """Whether the p99s and the largest requests are guarded, and every limit on them is shown to be kept."""
    tails = {check.metric: check.status for check in checks if check.metric in (*COLUMNS, *LARGEST)}
    both = bool(LARGEST.keys() & tails) and bool(COLUMNS.keys() & tails)
    return both and set(tails.values()) == {"held"}


def _nobody(table: Table, rows: Sequence[Comparison]) -> str:
    name = short_name(table.primary)
    withheld = [row for row in rows if row.verdict in ("no baseline", "degraded")]
    if len(withheld) == len(rows):
        return f"no verdict: {_listed([f'{row.strategy} ({row.verdict})' for row in withheld])}"
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


def gain(row: Comparison) -> float:
    """Smaller is better, whatever the metric's direction."""
    return row.test.effect.value * (-1 if METRICS[row.metric].better == "higher" else 1)


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _listed_each(clauses: Sequence[str], what: str = "see the notes") -> list[str]:
    more = len(clauses) - NAMED
    return [*clauses[:NAMED], *([f"{more} more: {what}"] if more > 0 else [])]
