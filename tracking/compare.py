"""`bidkv-compare sweep=…`: a sweep's strategies against one of them, from MLflow.

Exit code 1 if a word of `fail_if` was the verdict of the primary metric, or the state of a guardrail, of
any strategy; A/A controls do not count.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.config import CompareConfig, ComparisonConfig
from tracking.evidence.baseline import default_baseline
from tracking.evidence.classes import who_pays
from tracking.evidence.paired import Table, compare
from tracking.evidence.two_way import TwoWay, two_way
from tracking.no_effect import idle_compare_keys
from tracking.reporting.machine import as_csv, as_json
from tracking.reporting.render import rich_tables
from tracking.reporting.rows import first_screen, opening
from tracking.reporting.two_way import two_way_screen
from tracking.store.reader import RunReader, StoredSweep
from tracking.typed import refuse_idle, refuse_unknown, typed

WIDTH = 80  # columns, when the output is not a terminal
DETAIL_WIDTH = 180

ConfigStore.instance().store(name="compare_schema", node=CompareConfig)


def compare_from_store(config: CompareConfig) -> tuple[StoredSweep, list[Table]]:
    """Reads the sweeps that `config` names and compares their strategies."""
    reader = RunReader(config.tracking.uri, config.tracking.experiment)
    sweep = reader.sweeps(config.sweep)
    return sweep, compare_sweep(sweep, config)


def compare_sweep(sweep: StoredSweep, config: ComparisonConfig) -> list[Table]:
    """The strategies of `sweep` against `config.baseline` or, if that is null, what the engine does by itself.

    Raises ValueError where nothing can be compared.
    """
    if not sweep.runs:
        raise ValueError(f"sweep {sweep.name}: no finished run to compare")
    baseline = config.baseline or default_baseline(sweep.strategies)
    return compare(sweep, baseline, config.metrics, config.guardrails.rules, config.strategies, config)


def across_of(sweep: StoredSweep, tables: Sequence[Table], config: CompareConfig) -> list[TwoWay]:
    """The tables of `config.across`, if it names a setting. Raises ValueError where nothing differs in it."""
    if config.across is None:
        return []
    others = list(dict.fromkeys(name for table in tables for name in table.strategies))
    return two_way(sweep, config.across, tables[0].baseline, others, config)


def print_text(
    sweep: StoredSweep, tables: Sequence[Table], both: Sequence[TwoWay], config: CompareConfig
) -> None:
    """For people: a screen for each workload and load, then one for each setting's levels."""
    width = DETAIL_WIDTH if config.detail else WIDTH
    console = Console(width=None if sys.stdout.isatty() else width, highlight=False)
    console.print(opening(tables), end="")
    failed = {run.name for run in sweep.failed}
    for name in sweep.unfinished:
        what = "failed, counts as the worst result" if name in failed else "not finished, left out"
        console.print(f"note: {what}: {name}", style="yellow", markup=False)
    for table in tables:
        console.print(first_screen(table, who_pays(table) if config.classes else ()))
        if config.detail:
            console.print(rich_tables(table))
    for one in both:
        console.print(two_way_screen(one))


def words_of(tables: Sequence[Table]) -> set[str]:
    """The primary verdicts and guardrail states, of all but A/A controls."""
    words = set()
    for table in tables:
        rows = [row for row in table.comparisons if not row.exploratory]
        words |= {row.verdict for row in rows if row.strategy not in table.controls}
        words |= {check.status for check in table.guardrails if check.strategy not in table.controls}
    return words


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="compare")
def main(config: DictConfig) -> None:
    """Prints the comparison and leaves with the exit code that `fail_if` asks for."""
    with exit_on_bad_input():  # here too: Hydra would print a line of its own first
        keys = typed()
        refuse_unknown(keys, CompareConfig)
        settings: CompareConfig = OmegaConf.to_object(config)
        refuse_idle(keys, idle_compare_keys(settings))
        sweep, tables = compare_from_store(settings)
        both = across_of(sweep, tables, settings)
    if settings.format == "json":
        print(as_json(sweep, tables, both, settings.classes))
    elif settings.format == "csv":
        print(as_csv(tables), end="")
    else:
        print_text(sweep, tables, both, settings)
    failures: Collection[str] = words_of(tables) & set(settings.fail_if)
    if failures:
        print(f"fail_if: {', '.join(sorted(failures))}", file=sys.stderr)
        sys.exit(1)


def cli() -> None:
    """The command: 0, 1 if `fail_if` says so, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
