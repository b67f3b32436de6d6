"""`python -m tracking.report sweep=…`: a sweep on one page, HTML and Markdown, also logged to MLflow."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import hydra
import pandas as pd
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.config import ReportConfig
from tracking.evidence.comparison import Comparison, Table, compare
from tracking.plots.overhead import selector_times
from tracking.reporting.answer import log_answer
from tracking.reporting.figures import sweep_figure
from tracking.reporting.headline import headline
from tracking.reporting.page import Grid, Note, Page, Picture, Section
from tracking.reporting.render import CALLED, EXPLORATORY
from tracking.reporting.sections import (
    by_strategy,
    cell_parts,
    environment_section,
    metrics_section,
    overhead_section,
    rates_section,
    timeline_section,
    verdict_parts,
)
from tracking.store.reader import RunReader, StoredRun, StoredSweep, cell_titles

HEADLINE = {
    "ttft_mean_s": "mean TTFT ↓",
    "e2e_rmst_s": "mean E2E ↓",
    "throughput_tok_s": "tokens/s ↑",
    "slo_attainment": "within SLO ↑",
    "executed_tax": "executed tax ↓",
    "preemptions_max": "most preempt. ↓",
}

ConfigStore.instance().store(name="report_schema", node=ReportConfig)


def compare_if_possible(sweep: StoredSweep, config: ReportConfig) -> tuple[list[Table], str | None]:
    """The comparisons of a sweep; or none, and why there cannot be any."""
    rules, strategies = config.guardrails.rules, config.strategies
    try:
        return compare(sweep, config.baseline, config.metrics, rules, strategies, config), None
    except ValueError as error:
        return [], str(error)


def build_page(sweep: StoredSweep, config: ReportConfig, tables: list[Table], refusal: str | None) -> Page:
    """The report of a sweep and its comparisons (of `compare_if_possible`).

    Raises ValueError if it has no finished run or not the run asked for.
    """
    runs = [run for run in sweep.runs if not config.strategies or run.strategy in config.strategies]
    if not runs:
        raise ValueError(f"sweep {sweep.name}: no finished run to report")
    chosen = _chosen_run(runs, config)
    cells = defaultdict(list)
    for run in runs:
        cells[run.cell].append(run)
    titles = cell_titles(cells)
    sections = [_summary(sweep, runs, titles, tables, refusal)]
    times: dict[str, list[pd.DataFrame]] = defaultdict(list)
    environments = []
    terminal = Console(stderr=True)
    bar = track(
        cells.items(), "workloads", console=terminal, transient=True, disable=not terminal.is_terminal
    )
    for number, (cell, members) in enumerate(bar, 1):
        section = Section(titles[cell])
        for table in (table for table in tables if table.title == titles[cell]):
            section.parts += verdict_parts(table, f"{number}-{table.state.replace(' ', '-')}")
        section.parts += cell_parts(titles[cell], str(number), by_strategy(members, config.baseline))
        sections.append(section)
        for run in members:
            times[run.strategy].append(selector_times(run.result))
            environments.append(run.result.environment)
            run.release()
    sections += [
        rates_section(runs),
        overhead_section(by_strategy(runs, config.baseline), times),
        timeline_section(chosen),
        environment_section(runs, environments, chosen, titles),
        metrics_section(),
    ]
    strategies = len({run.strategy for run in runs})
    subtitle = (
        f"sweep {sweep.sweep_id}: {len(runs)} runs of {strategies} strategies, baseline {config.baseline}"
    )
    return Page(f"BidKV report: {sweep.name}", subtitle, [section for section in sections if section])


def _summary(
    sweep: StoredSweep, runs: list[StoredRun], titles: dict, tables: list[Table], refusal: str | None
) -> Section:
    """What a reader should take away, in words and one figure."""
    parts: list = [Note(f"No verdict: {refusal}.", strong=True)] if refusal else []
    parts += [Note(f"{table.title}: {headline(table)}.") for table in tables]
    failed = {run.name for run in sweep.failed}
    for what, names in (
        ("Failed, counts as the worst result of its seed", [n for n in sweep.unfinished if n in failed]),
        ("Not finished, left out", [n for n in sweep.unfinished if n not in failed]),
    ):
        if names:
            parts.append(Note(f"{what}: {', '.join(names)}.", strong=True))
    if tables:
        metrics = [name for name in HEADLINE if any(c.metric == name for t in tables for c in t.comparisons)]
        header = ["workload", "strategy", *(HEADLINE[name] for name in metrics), "guardrails"]
        rows = [row for table in tables for row in summary_rows(table, metrics)]
        caption = f"Verdict and ratio against {tables[0].baseline}. All metrics and intervals are below."
        parts.append(Grid(header, rows, caption, range(2, 2 + len(metrics))))
    rows = [SimpleNamespace(group=titles[r.cell], strategy=r.strategy, metrics=r.metrics) for r in runs]
    caption = "Bars are means over runs, dots are runs."
    return Section("In short", [*parts, Picture("sweep", sweep_figure(rows), caption)])


def summary_rows(table: Table, metrics: Sequence[str]) -> list[list[str]]:
    """A row for each strategy: its verdict in each of `metrics`, and how the guardrails stand."""
    rows = []
    for strategy in table.strategies:
        found = {c.metric: _in_short(c) for c in table.comparisons if c.strategy == strategy}
        checks = Counter(check.status for check in table.guardrails if check.strategy == strategy)
        name = table.title + (f" ({table.state})" if table.state != "ok" else "")
        rows.append(
            [
                name if strategy == table.strategies[0] else "",
                strategy,
                *(found.get(metric, "-") for metric in metrics),
                ", ".join(f"{count} {status}" for status, count in checks.items()) or "-",
            ]
        )
    return rows


def _in_short(comparison: Comparison) -> str:
    """The verdict, shortened, and the ratio."""
    ratio = comparison.test.ratio
    words = {"no difference shown": "no diff.", "too few runs": "too few", "no pressure": "-"}
    word = words.get(comparison.verdict, comparison.verdict)
    if comparison.exploratory and word in CALLED:
        word += EXPLORATORY
    return f"{word} {ratio.value:.2f}x" if ratio else word


def _chosen_run(runs: list[StoredRun], config: ReportConfig) -> StoredRun:
    """The run asked for, or the baseline's run (failing that, any) with the most preemptions."""
    if config.run is not None:
        found = next((run for run in runs if run.run_id.startswith(config.run)), None)
        if found is None:
            raise ValueError(f"run={config.run!r}: not a finished run of the sweep")
        return found
    return max(runs, key=lambda r: (r.strategy == config.baseline, r.metrics.get("preemptions", 0)))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def main(config: DictConfig) -> None:
    """Writes the page and logs it to the sweep's parent run, under `report/`, with the verdict in words."""
    with exit_on_bad_input():  # here too: Hydra would print a line of its own first
        settings: ReportConfig = OmegaConf.to_object(config)
        reader = RunReader(settings.tracking.uri, settings.tracking.experiment)
        sweep = reader.sweeps(settings.sweep)
        tables, refusal = compare_if_possible(sweep, settings)
        page = build_page(sweep, settings, tables, refusal)
    folder = Path(settings.folder)
    for path in page.write(folder):
        print(path)
    reader.client.log_artifacts(sweep.sweep_id, str(folder), "report")
    if tables:
        log_answer(reader.client, sweep.sweep_id, tables)
    print(f"also in MLflow: run {sweep.sweep_id}, artifacts, report/")


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
