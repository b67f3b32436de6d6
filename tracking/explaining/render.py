"""An explanation on a screen of 80 columns, and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tracking.explaining.attribute import Attribution
from tracking.explaining.findings import Group, Measure, groups, measures, rows_of, sentence
from tracking.recorded.read import Recorded
from tracking.recorded.strategies import STOCK, all_decided

BY = {"size": "by class", "hour": "by hour (UTC)"}


def print_tables(console: Console, found: Attribution) -> None:
    """Shares by cause, then classes and hours."""
    console.print(causes_table(measures(found)))
    for column, title in BY.items():
        rows = groups(found, column)
        if len(rows) > 1:
            console.print(groups_table(rows, title))


def causes_table(columns: Sequence[Measure]) -> Table:
    """A row a cause, and the seconds that they are shares of."""
    table = Table(title="where the time went", title_justify="left", header_style="bold")
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(column.name, justify="right")
    table.add_row("seconds", *(seconds(column.seconds) for column in columns), end_section=True)
    for cause in rows_of(list(columns)):
        table.add_row(cause.words, *(percent(column.shares[cause.name]) for column in columns))
    return table


def groups_table(rows: Sequence[Group], title: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("", "requests", "TTFT", "p99", "E2E"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_column("most of TTFT is", overflow="fold")
    for row in rows:
        table.add_row(
            row.name, f"{row.requests:,}", seconds(row.ttft_s), seconds(row.ttft_p99_s), seconds(row.e2e_s),
            f"{percent(row.share)} {row.largest.words}",
        )  # fmt: skip
    return table


def notes(recordings: Sequence[Recorded], found: Attribution) -> list[str]:
    """What a reader must know of these numbers."""
    ended = len(found.requests)
    said = [
        f"{ended:,} requests of {len(recordings)} start(s); seconds add up to E2E within {found.worst_gap:.1g} of it"
    ]
    servers = sorted({recorded.server for recorded in recordings})
    if len(servers) > 1:
        said.append(f"several servers together: {', '.join(servers)}; a folder of its own tells each apart")
    strategies = all_decided(one for recorded in recordings for one in recorded.strategies)
    if strategies and strategies != [STOCK]:
        said.append(f"recorded under {', '.join(strategies)}")
    cut_off = sum(recorded.cut_off for recorded in recordings)
    if cut_off:
        said.append(
            f"{cut_off:,} requests came whose end is not recorded: they ran, or their segment is gone"
        )
    unread = sum(recorded.unread for recorded in recordings)
    if unread:
        said.append(f"{unread:,} lines are not whole, as where a server was killed")
    if not all(recorded.head["prefix_caching"] for recorded in recordings):
        said.append(
            "no prefix cache, at least in part: what is computed again between turns is not seen there"
        )
    return said


def as_data(recordings: Sequence[Recorded], found: Attribution) -> dict[str, Any]:
    """The same for machines."""
    return {
        "sentence": sentence(found),
        "requests": len(found.requests),
        "worst_gap": found.worst_gap,
        "measures": [
            {"name": m.name, "seconds": m.seconds, "requests": m.requests, "shares": m.shares} for m in measures(found)
        ],
        **{
            column: [
                {
                    "name": row.name, "requests": row.requests, "ttft_s": _plain(row.ttft_s),
                    "ttft_p99_s": _plain(row.ttft_p99_s), "e2e_s": row.e2e_s, "largest": row.largest.name,
                    "share": row.share,
                }
                for row in groups(found, column)
            ]
            for column in BY
        },
        "notes": notes(recordings, found),
    }  # fmt: skip


def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 or not share else f"{share:.1%}"


def seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g} s" if value < 1000 else f"{value:,.0f} s"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
