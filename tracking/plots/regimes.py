"""Where each strategy helps: strategies x workloads and loads, coloured by verdict."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from tracking.evidence.paired import Table
from tracking.plots.forest import LOOKS
from tracking.plots.style import INK, look, new_figure
from tracking.strategies import in_order

FEWEST = 3  # loads that make a map
BROKEN = "#B00020"
SHADES = {"better": 0.8, "worse": 0.8, "different": 0.6, "equivalent": 0.35, "no difference shown": 0.2}


def regime_figure(tables: Sequence[Table]) -> Figure:
    """A row a strategy, a column a workload and load. The number is the change of the primary metric in
    percent; a red frame says that a guardrail is broken there."""
    names = in_order(name for table in tables for name in table.strategies)
    with look():
        figure = new_figure(height=1.9 + 0.34 * len(names))
        ax = figure.subplots()
        used = set()
        for column, table in enumerate(tables):
            for line, name in enumerate(names):
                row = table.find(table.primary, name)
                if row is None:
                    ax.text(column, line, "-", ha="center", va="center", fontsize=8)
                    continue
                used.add(row.verdict)
                colour, alpha = LOOKS[row.verdict][0], SHADES.get(row.verdict, 0.12)
                ax.add_patch(
                    Rectangle((column - 0.48, line - 0.46), 0.96, 0.92, color=colour, alpha=alpha, lw=0)
                )
                dark = row.verdict in ("better", "worse", "different")
                ax.text(
                    column,
                    line,
                    _change(row),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else INK,
                )
                if any(check.status == "broken" for check in table.guards(name)):
                    ax.add_patch(
                        Rectangle(
                            (column - 0.45, line - 0.42), 0.9, 0.84, fill=False, edgecolor=BROKEN, lw=1.8
                        )
                    )
        ax.set_xlim(-0.5, len(tables) - 0.5)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), names, fontsize=9)
        titles = ["\n".join([table.title.replace(" at ", "\n", 1), table.scale.short]) for table in tables]
        ax.set_xticks(range(len(tables)), titles, fontsize=8, rotation=90 if len(tables) > 8 else 0)
        ax.grid(visible=False)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        handles = [
            Patch(color=colour, alpha=SHADES.get(word, 0.12), label=word)
            for word, (colour, _) in LOOKS.items()
            if word in used
        ]
        handles.append(Patch(fill=False, edgecolor=BROKEN, linewidth=1.8, label="a guardrail is broken"))
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        return figure


def _change(row) -> str:
    if row.test.ratio is None:
        return ""
    percent = 100 * (row.test.ratio.value - 1)
    if percent >= 100:
        return f"{row.test.ratio.value:.1f}×"
    text = f"{abs(percent):.0f}" if abs(percent) >= 9.5 else f"{abs(percent):.1f}"
    return text if float(text) == 0 else ("\N{MINUS SIGN}" if percent < 0 else "+") + text
