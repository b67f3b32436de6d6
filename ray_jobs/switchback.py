"""`bidkv-switchback strategy=… control_file=…`: a strategy against stock on a running server's own traffic.

Blocks of minutes in a drawn order, through the server's control file; nothing is sent. The engine's own choices hold
at the end, whatever the end was.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from bidkv.adapters.shared.control_place import check_place
from bidkv.adapters.shared.events import JsonLines
from bidkv.errors import BidKVError
from ray_jobs.live.config import SwitchbackConfig
from tracking.cli import CONF, exit_on_bad_input, interrupt_on_sigterm, run_command
from tracking.errors import require
from tracking.places import require_folder
from tracking.typed import Idle, refuse_idle, refuse_unknown, typed

INTERRUPTED, HALTED = 130, 1

ConfigStore.instance().store(name="switchback_schema", node=SwitchbackConfig)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="switchback")
def main(config: DictConfig) -> None:
    with exit_on_bad_input():
        settings: SwitchbackConfig = OmegaConf.to_object(config)
        keys = typed()
        refuse_unknown(keys, SwitchbackConfig)
        refuse_idle(keys, idle_keys(settings))
        check_files(settings)
        halted = switchback(settings)
    if halted:
        sys.exit(HALTED)


def idle_keys(config: SwitchbackConfig) -> Iterator[Idle]:
    """Keys that change nothing of this experiment."""
    from ray_jobs.engines.no_effect import idle_strategy_keys

    yield from idle_strategy_keys(config.strategy)


def check_files(config: SwitchbackConfig) -> None:
    """Raises ValueError for a control file that the server would refuse, or records that are not there."""
    try:
        check_place(config.control_file)
    except BidKVError as error:
        raise ValueError(f"control_file: {error}") from None
    if config.events_file is not None:
        there = Path(config.events_file).is_file()
        require(
            there,
            "events_file",
            config.events_file,
            "the --bidkv-events of a server that is up; no such file",
        )
    require_folder("out", config.out)


def switchback(config: SwitchbackConfig) -> bool:
    """Runs the experiment and prints what it found; whether it was halted."""
    from ray_jobs.live.experiment import Experiment
    from ray_jobs.live.lease import Lease
    from ray_jobs.live.plan import plan_blocks
    from ray_jobs.live.records import Records
    from ray_jobs.live.scrapes import Scrapes

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    watched = [Records(config.events_file)] if config.events_file is not None else []
    watched += [Scrapes(config.url)] if config.url is not None else []
    seed = secrets.randbelow(2**31) if config.seed is None else config.seed
    journal = JsonLines(Path(config.out) / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{seed}.jsonl")
    say(
        f"{config.strategy.label} by turns with stock: {config.pairs} pairs of blocks of {config.block_s:g} s, seed {seed}; "
        f"journal {journal.path}"
    )
    lease = Lease(config.control_file, config.strategy, seed, config.lease_s)
    blocks = plan_blocks(config.pairs, config.block_s, seed)
    found = Experiment(config, blocks, watched[0], watched, lease, journal, say).run(seed)
    if config.format == "json":
        print(json.dumps(found.to_dict()))
    else:
        print("\n".join(found.lines()))
    return found.halted is not None


def cli() -> None:
    """The command: 0, 1 if it was halted, 2 on bad input, 130 if interrupted."""
    interrupt_on_sigterm()
    try:
        run_command(main)
    except KeyboardInterrupt:
        print("interrupted; stock decides", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    cli()
