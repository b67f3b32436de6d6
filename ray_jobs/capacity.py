"""`bidkv-capacity workload=… engine=…`: the highest rate that an engine's queue bears.

Prints it with the runs that found it. `workload.load=95%` of the main job is a share of this number.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from ray_jobs.drive.capacity import Capacity, find_capacities, key_of
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.interpreter import check_interpreters
from ray_jobs.drive.no_effect import idle_capacity_keys
from ray_jobs.drive.servers import resolve_servers
from ray_jobs.workload.config import KINDS_WITH_SHARE
from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.errors import require
from tracking.typed import refuse_idle, refuse_unknown, typed

ConfigStore.instance().store(name="bench_schema", node=BenchConfig)


def curve(capacity: Capacity) -> Table:
    """A row a rate: how the queue did over the second half of the arrivals."""
    table = Table(title="a queue that has formed, at each rate", title_justify="left", header_style="bold")
    for name in ("rate, req/s", "of capacity", "waiting", "at the end", "mean wait, s", "growth", "queue"):
        table.add_column(name, justify="right")
    for probe in sorted(capacity.probes, key=lambda probe: probe.rate):
        table.add_row(
            f"{probe.rate:.4g}",
            f"{probe.rate / capacity.rate:.1%}",
            f"{probe.waiting_before:.1f}",
            f"{probe.waiting_after:.1f}",
            f"{probe.wait_s:.2f}",
            f"{probe.growth:+.1%}",
            "stable" if probe.stable else "grows",
        )
    return table


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="capacity")
def main(config: DictConfig) -> None:
    console = Console()
    with exit_on_bad_input():
        job: BenchConfig = OmegaConf.to_object(config)
        keys = typed()
        refuse_unknown(keys, BenchConfig)
        refuse_idle(keys, idle_capacity_keys(job))
        require(
            job.workload.arrivals.kind in KINDS_WITH_SHARE, "workload", job.workload.name,
            "one whose requests arrive by themselves: those of sessions and closed loops wait for answers, so no queue grows",
        )  # fmt: skip

        def say(text: str) -> None:
            console.print(text, highlight=False, soft_wrap=True)

        check_interpreters([job])
        (job,) = resolve_servers([job], say)
        found = find_capacities([job], say)
    key = key_of(job)
    capacity = found[key]
    console.print(curve(capacity))
    console.print(
        f"capacity  {capacity.rate:g} req/s, {capacity.runs} runs ({capacity.saturated:.4g} req/s when saturated)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"kept in   {Path(job.capacity.folder) / key}.json", highlight=False, soft_wrap=True)


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
