"""The table of a setting's levels and the policies, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tracking.evidence.statistics import PairedTest
from tracking.evidence.two_way import TwoWay
from tracking.reporting.words import short_name


def two_way_screen(table: TwoWay) -> Group:
    """Ratios with 95 % intervals. Not corrected for how many they are: they estimate, verdicts are in the tables above."""
    first = table.rows[0].level
    strategies = list(dict.fromkeys(name for row in table.rows for name in row.policies))
    name = short_name(table.metric)
    about = (
        f"{name}, ratios [95 %]. {table.baseline}: to {first}'s. Others: to {table.baseline}'s beside them; below, how that "
        f"differs from {first}'s (1 = the gains multiply)"
    )
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column(table.setting.removesuffix(".name").rsplit(".", 1)[-1], overflow="fold", min_width=8)
    for column in (table.baseline, *strategies):
        grid.add_column(column, justify="right", overflow="fold")
    for row in table.rows:
        policies = [_cell(row.policies.get(s), table.seeds) for s in strategies]
        grid.add_row(Text(row.level), _cell(row.baseline, table.seeds, "1"), *policies)
        if row.interactions:
            differs = [_cell(row.interactions.get(s), table.seeds) for s in strategies]
            grid.add_row("", "", *differs, style="dim")
    if table.late:
        about += f"; {table.late} seeds left out, in which a client was late"
    return Group(Text(f"{table.title}, by {table.setting}", style="bold"), Text(about, style="dim"), grid, "")


def two_way_tree(tables: Sequence[TwoWay]) -> list[dict]:
    """For JSON: intervals as they are, None where there is none."""
    return [
        {
            "workload": table.title,
            "setting": table.setting,
            "metric": table.metric,
            "baseline": table.baseline,
            "seeds": table.seeds,
            "late_seeds": table.late,
            "levels": [
                {
                    "level": row.level,
                    "baseline": row.baseline and _facts(row.baseline),
                    "policies": {name: _facts(test) for name, test in row.policies.items()},
                    "interactions": {name: _facts(test) for name, test in row.interactions.items()},
                }
                for row in table.rows
            ],
        }
        for table in tables
    ]


def _cell(test: PairedTest | None, seeds: int, otherwise: str = "-") -> str:
    """The ratio and its interval; how many pairs, where some are missing."""
    if test is None or test.ratio is None:
        return otherwise
    value, low, high = test.ratio.value, test.ratio.low, test.ratio.high
    text = f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return text + (f"\n{test.pairs} of {seeds} pairs" if test.pairs < seeds else "")


def _facts(test: PairedTest) -> dict:
    return {"ratio": test.ratio, "pairs": test.pairs, "failed": test.failed}
