"""A sweep in one cell of a table: which strategy did best, by how much, what that is worth, and its tail."""

from __future__ import annotations

from collections.abc import Sequence

from tracking.evidence.blocks import NO_VERDICT
from tracking.evidence.paired import Comparison, Table
from tracking.evidence.statistics import Interval
from tracking.reporting.headline import BROKEN, HELD, TAIL_SAFE, gain, standing

TAIL = "e2e_p99_s"


def in_short(tables: Sequence[Table]) -> str | None:
    """As "backfill 0.83, better; p99 0.91": of the strategy that is better and tail-safe in most of the tables, else better
    with no guardrail broken, among equals the one with the largest gain, its ratios to the baseline. None where nothing was
    compared."""
    found: dict[str, list[tuple[Table, Comparison]]] = {}
    for table in tables:
        if table.state in NO_VERDICT:
            continue
        for name in table.strategies:
            row = table.find(table.primary, name)
            if row is not None and name not in table.controls:
                found.setdefault(name, []).append((table, row))
    if not found:
        return None
    best = min(found, key=lambda name: _rank(found[name]))
    rows = [row for _, row in found[best]]
    tails = [table.ratio(TAIL, best) for table, _ in found[best]]
    ratio, verdict = (
        _span([row.test.ratio for row in rows]),
        _verdicts([_word(table, row) for table, row in found[best]]),
    )
    return f"{best} {ratio}, {verdict}; p99 {_span(tails)}"


def _rank(rows: Sequence[tuple[Table, Comparison]]) -> tuple[float, ...]:
    """Smaller is better."""
    states = [standing(table, row) for table, row in rows if row.verdict == "better"]
    gains = [gain(row) for _, row in rows]
    counts = (
        sum(state == TAIL_SAFE for state in states),
        sum(state != BROKEN for state in states),
        len(states),
    )
    return *(-count for count in counts), sum(gains) / len(gains)


def _word(table: Table, row: Comparison) -> str:
    """As the table has it: "better, but" where a guardrail is not shown to be kept."""
    doubtful = row.verdict == "better" and standing(table, row) > HELD
    return "better, but" if doubtful else row.verdict


def _span(ratios: Sequence[Interval | None]) -> str:
    values = sorted(ratio.value for ratio in ratios if ratio is not None)
    if not values:
        return "not measured"
    low, high = f"{values[0]:.2f}", f"{values[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def _verdicts(words: Sequence[str]) -> str:
    """One word, or how often each was said: "better in 3 of 4"."""
    if len(words) == 1:
        return words[0]
    better, doubtful = words.count("better"), words.count("better, but")
    text = f"better in {better + doubtful} of {len(words)}"
    return f"{text}, but in {doubtful}" if doubtful else text
