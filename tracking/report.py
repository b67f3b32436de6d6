"""`bidkv-report sweep=…`: a sweep on one page, HTML and Markdown, also logged to MLflow."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import hydra
import pandas as pd
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.compare import compare_sweep
from tracking.config import ReportConfig
from tracking.evidence.baseline import default_baseline
from tracking.evidence.paired import Table
from tracking.no_effect import idle_store_keys
from tracking.plots.overhead import selector_times
from tracking.reporting.answer import log_answer
from tracking.reporting.definitions import strategies_section
from tracking.reporting.engines import engines_section
from tracking.reporting.headline import headline, overall
from tracking.reporting.page import Page, Section
from tracking.reporting.sections import (
    by_strategy,
    cell_parts,
    environment_of,
    environment_section,
    metrics_section,
    overhead_section,
    rates_section,
    scale_parts,
    timeline_section,
    verdict_parts,
)
from tracking.reporting.summary import FEW, summary_section
from tracking.store.address import page_of, short
from tracking.store.reader import RunReader, StoredRun, StoredSweep, cell_titles
from tracking.typed import refuse_idle, refuse_unknown, typed

LARGE = 3  # workloads and loads; a page with more has its figures as PNG, and some for the hardest load only

ConfigStore.instance().store(name="report_schema", node=ReportConfig)


def compare_if_possible(sweep: StoredSweep, config: ReportConfig) -> tuple[list[Table], str | None]:
    """The comparisons of a sweep; or none, and why there cannot be any. Raises ValueError for a baseline that it lacks."""
    if config.baseline is not None and config.baseline not in sweep.strategies:
        has = ", ".join(sweep.strategies)
        raise ValueError(f"baseline={config.baseline!r}: no finished run in sweep {sweep.name}; it has {has}")
    try:
        return compare_sweep(sweep, config), None
    except ValueError as error:
        return [], str(error)


def build_page(sweep: StoredSweep, config: ReportConfig, tables: list[Table], refusal: str | None) -> Page:
    """The report of a sweep and its comparisons (of `compare_if_possible`).

    Raises ValueError if it has no finished run or not the run asked for.
    """
    runs = [run for run in sweep.runs if not config.strategies or run.strategy in config.strategies]
    if not runs:
        raise ValueError(f"sweep {sweep.name}: no finished run to report")
    baseline = config.baseline or default_baseline(sweep.strategies)
    chosen = _chosen_run(runs, config, baseline)
    cells = defaultdict(list)
    for run in runs:
        cells[run.cell].append(run)
    titles = cell_titles(cells)
    hardest = max(cells, key=lambda cell: sum(run.metrics.get("preemptions", 0) for run in cells[cell]))
    sections = [
        summary_section(sweep, runs, titles, tables, refusal),
        strategies_section(by_strategy(runs, baseline)),
    ]
    times: dict[str, list[pd.DataFrame]] = defaultdict(list)
    environments = []
    terminal = Console(stderr=True)
    bar = track(
        cells.items(), "workloads", console=terminal, transient=True, disable=not terminal.is_terminal
    )
    for number, (cell, members) in enumerate(bar, 1):
        section = Section(titles[cell])
        section.parts += scale_parts(members, baseline)
        for table in (table for table in tables if table.title == titles[cell]):
            section.parts += verdict_parts(
                table, f"{number}-{table.state.replace(' ', '-')}", len(tables) > FEW
            )
        whole = len(cells) <= LARGE or cell == hardest
        section.parts += cell_parts(titles[cell], str(number), by_strategy(members, baseline), whole)
        sections.append(section)
        for run in members:
            times[run.strategy].append(selector_times(run.result))
            environments.append(environment_of(run))
            run.release()
        for picture in section.pictures:
            picture.draw(vector=len(cells) <= LARGE)
    sections += [
        rates_section(runs),
        overhead_section(by_strategy(runs, baseline), times),
        engines_section(runs),
        timeline_section(chosen),
        environment_section(runs, environments, chosen, titles),
        metrics_section(),
    ]
    strategies = len({run.strategy for run in runs})
    subtitle = f"sweep {sweep.sweep_id}: {len(runs)} runs of {strategies} strategies, baseline {baseline}"
    shown = [section for section in sections if section and section.parts]
    return Page(f"BidKV report: {sweep.name}", subtitle, shown, vector=len(cells) <= LARGE)


def _chosen_run(runs: list[StoredRun], config: ReportConfig, baseline: str) -> StoredRun:
    """The run asked for, or the baseline's run (failing that, any) with the most preemptions."""
    if config.run is not None:
        found = next((run for run in runs if run.run_id.startswith(config.run)), None)
        if found is None:
            raise ValueError(f"run={config.run!r}: not a finished run of the sweep")
        return found
    return max(runs, key=lambda r: (r.strategy == baseline, r.metrics.get("preemptions", 0)))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def main(config: DictConfig) -> None:
    """Writes the page and logs it to the sweep's parent run, under `report/`, with the verdict in words."""
    with exit_on_bad_input():  # here too: Hydra would print a line of its own first
        keys = typed()
        refuse_unknown(keys, ReportConfig)
        refuse_idle(keys, idle_store_keys())
        settings: ReportConfig = OmegaConf.to_object(config)
        reader = RunReader(settings.tracking.uri, settings.tracking.experiment)
        sweep = reader.sweeps(settings.sweep)
        tables, refusal = compare_if_possible(sweep, settings)
        page = build_page(sweep, settings, tables, refusal)
    folder = Path(settings.folder) / folder_name(sweep)
    for sentence in sentences(tables, refusal):
        print(sentence)
    html, markdown = page.write(folder)
    reader.client.log_artifacts(sweep.sweep_id, str(folder), "report")
    if tables:
        log_answer(reader.client, sweep.sweep_id, tables)
    print(f"\nreport   {html.resolve().as_uri()}\n         {markdown}")
    if any(picture.name == "frontier" for section in page.sections for picture in section.pictures):
        print(f"figure   {folder / 'figures' / 'frontier.png'}")
    print(
        f"browse   {page_of(settings.tracking.uri, reader.experiment_id, sweep.sweep_id)}, artifacts, report/"
    )


def sentences(tables: Sequence[Table], refusal: str | None) -> list[str]:
    """What the report opens with: the answer over all loads, or that of each."""
    if refusal:
        return [f"no verdict: {refusal}"]
    over_all = overall(tables)
    return [over_all] if over_all else [f"{table.title}: {headline(table)}" for table in tables]


def folder_name(sweep: StoredSweep) -> str:
    """The sweep's name as a folder, ended by the beginning of its id: "sim_quick-5x8-dd0a798d"."""
    name = sweep.name.replace("\N{MULTIPLICATION SIGN}", "x").removesuffix(short(sweep.sweep_id))
    return "-".join([*re.findall(r"[\w.]+", name, re.ASCII), short(sweep.sweep_id)])


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
