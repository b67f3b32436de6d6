"""What the proof's sweeps say together:

    python scripts/proof_table.py FOLDER [--baseline stock] [--cells] [--figure FILE] [--without CELL ...]

Reads every FOLDER/*/outputs/mlflow.db, corrects the verdicts of each strategy over all of its cells, and prints, for
each strategy, the geometric means of its ratios to the baseline over the cells in which the baseline preempts, how
many verdicts are "better" and "worse", in how many cells it is tail-safe, and the most preemptions that one request
had in any run. --cells: a line a cell as well. --without: a cell that stands there another time, in full, by the
beginning of its title. A strategy is a family of its own: the bars of conf/experiment/proof_sim.yaml are asked of one
each.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import geometric_mean, mean

from matplotlib.ticker import FixedLocator
from omegaconf import OmegaConf

from tracking.cli import CONF
from tracking.evidence.config import EvidencePlan, GuardrailRule
from tracking.evidence.paired import Table, compare
from tracking.plots.style import look, new_figure, plain_log, strategy_styles
from tracking.reporting.headline import is_tail_safe
from tracking.reporting.summary import guards_text
from tracking.store.reader import RunReader, StoredSweep

METRICS = (
    "e2e_rmst_s", "e2e_mean_s", "e2e_p99_s", "ttft_p99_s", "e2e_largest_s", "ttft_largest_s", "throughput_tok_s",
    "executed_tax",
)  # fmt: skip
SHOWN = ("e2e_p99_s", "ttft_p99_s", "e2e_largest_s", "ttft_largest_s", "throughput_tok_s")
TITLES = "p99 E2E | p99 TTFT | largest 5 %: E2E | TTFT | throughput"


def read(folder: Path) -> StoredSweep:
    """All sweeps of all parts as one."""
    found = []
    for store in sorted(folder.glob("*/outputs/mlflow.db")):
        reader = RunReader(f"sqlite:///{store}", "bidkv")
        found.append(reader.sweep("latest"))
    if not found:
        raise SystemExit(f"{folder}: no */outputs/mlflow.db in it")
    return StoredSweep(
        found[0].sweep_id, "proof", [run for sweep in found for run in sweep.runs],
        [name for sweep in found for name in sweep.unfinished], [run for sweep in found for run in sweep.failed],
    )  # fmt: skip


def ratio(table: Table, strategy: str, metric: str) -> float:
    """NaN where there is none."""
    found = table.ratio(metric, strategy)
    return found.value if found else math.nan


def most_preempted(table: Table, strategy: str) -> float:
    return max(run.metrics["preemptions_max"] for run in table.runs if run.strategy == strategy)


def tax(table: Table, strategy: str) -> float:
    return mean(run.metrics["executed_tax"] for run in table.runs if run.strategy == strategy)


def cell_lines(table: Table) -> list[str]:
    """A Markdown row a strategy; the interval is that of mean E2E."""
    lines = []
    for name in table.strategies:
        row = table.find("e2e_rmst_s", name)
        shown = row.test.ratio
        numbers = [ratio(table, name, metric) for metric in SHOWN]
        lines.append(
            f"| {table.title} ({table.state}, {row.test.pairs} pairs) | {name} | {shown.value:.3f} "
            f"[{shown.low:.3f}, {shown.high:.3f}] | {row.verdict} | "
            + " | ".join(f"{number:.2f}" for number in numbers)
            + f" | {tax(table, table.baseline):.1%} → {tax(table, name):.1%} | {most_preempted(table, name):.0f} | "
            f"{guards_text(table, name)} |"
        )
    return lines


def summary(tables: list[Table], name: str) -> str:
    """The strategy over all cells in which the baseline preempts."""
    rows = [table for table in tables if name in table.strategies]
    words = [table.find("e2e_rmst_s", name).verdict for table in rows]

    def typical(metric: str) -> str:
        found = [ratio(table, name, metric) for table in rows]
        found = [value for value in found if math.isfinite(value) and value > 0]
        return f"{geometric_mean(found):.3f}" if found else "-"

    return (
        f"| {name} | {len(rows)} | "
        + " | ".join(typical(metric) for metric in ("e2e_rmst_s", *SHOWN))
        + f" | {words.count('better')} | "
        f"{sum(is_tail_safe(table.guards(name)) for table in rows)} | {words.count('worse')} | "
        f"{max(most_preempted(table, name) for table in rows):.0f} |"
    )


def draw(tables: list[Table], names: list[str], baseline: str, file: Path) -> None:
    """Ratios to the baseline, logarithmic; left and down is better."""
    styles = strategy_styles([baseline, *names])
    with look():
        figure = new_figure(height=4.6)
        ax = figure.subplots()
        for name in names:
            cells = [table for table in tables if name in table.strategies]
            points = [(ratio(table, name, "e2e_rmst_s"), ratio(table, name, "e2e_p99_s")) for table in cells]
            points = [point for point in points if all(map(math.isfinite, point))]
            color, marker = styles[name]["color"], styles[name]["marker"]
            ax.scatter(*zip(*points, strict=True), s=12, color=color, marker=marker, alpha=0.35, linewidths=0)
            x, y = (geometric_mean(values) for values in zip(*points, strict=True))
            ax.scatter(x, y, s=70, color=color, marker=marker, label=f"{name} ({len(points)})", zorder=3)
        ax.axvline(1, color="0.8", linewidth=1, zorder=0)
        ax.axhline(1, color="0.8", linewidth=1, zorder=0)
        plain_log(ax.xaxis), plain_log(ax.yaxis)
        ax.xaxis.set_major_locator(FixedLocator([0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2]))
        ax.set_xlabel(f"mean E2E, ratio to {baseline}")
        ax.set_ylabel(f"p99 E2E, ratio to {baseline}")
        figure.legend(loc="outside right upper", title="strategy (cells)")
        figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--baseline", default="stock")
    parser.add_argument("--cells", action="store_true")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--without", nargs="*", default=[])
    given = parser.parse_args()
    sweep = read(given.folder)
    plan = OmegaConf.to_object(OmegaConf.merge(EvidencePlan, OmegaConf.load(CONF / "evidence/default.yaml")))
    rules = [GuardrailRule(**rule) for rule in OmegaConf.load(CONF / "guardrails/default.yaml").rules]
    names = sorted({run.strategy for run in sweep.runs} - {given.baseline})
    pressured = [
        table
        for name in names
        for table in compare(sweep, given.baseline, METRICS, rules, [name], plan)
        if table.state != "no pressure" and not table.title.startswith(tuple(given.without))
    ]
    cells = {table.title for table in pressured}
    print(f"{len(sweep.runs)} runs, {len(sweep.unfinished)} without a result, {len(cells)} pressured cells\n")
    print(f"| strategy | cells | mean E2E | {TITLES} | better | tail-safe | worse | most preemptions |")
    print("|---|" + "---:|" * (len(SHOWN) + 6))
    for name in sorted({name for table in pressured for name in table.strategies}):
        print(summary(pressured, name))
    if given.figure:
        drawn = [name for name in names if sum(name in table.strategies for table in pressured) > 1]
        draw(pressured, drawn, given.baseline, given.figure)
    if given.cells:
        print(f"\n| cell | strategy | mean E2E | verdict | {TITLES} | executed tax | most | guardrails |")
        print("|---|---|---|---|" + "---:|" * len(SHOWN) + "---|---:|---|")
        for table in sorted(pressured, key=lambda table: table.title):
            print("\n".join(cell_lines(table)))


if __name__ == "__main__":
    main()
