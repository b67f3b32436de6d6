"""`bidkv-upload`: brings the results that still wait in the spool into their MLflow store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.errors import require
from tracking.imports import large_imports
from tracking.store.address import short
from tracking.store.spool import waiting_spools
from tracking.typed import refuse_unknown, typed


@dataclass
class UploadConfig:
    """Where the results wait: `tracking.spool` of the sweeps that left them."""

    spool: str = "outputs/spool"


ConfigStore.instance().store(name="upload_schema", node=UploadConfig)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="upload")
def main(config: DictConfig) -> None:
    """Exits with 1 if a store did not take all."""
    with exit_on_bad_input():
        keys = typed()
        refuse_unknown(keys, UploadConfig)
        settings: UploadConfig = OmegaConf.to_object(config)
        # Without a word the folder of this checkout is meant, which is not there before a store was away.
        there = bool(settings.spool) and (Path(settings.spool).is_dir() or "spool" not in keys)
        require(there, "spool", settings.spool, "a folder: tracking.spool of the sweeps whose results wait")
    spools = waiting_spools(settings.spool)
    if not spools:
        print(f"{settings.spool}: nothing waits")
        return
    with large_imports():  # MLflow: not before something waits
        from tracking.store.upload import bring

    refused = False
    for spool in spools:
        before = len(spool.pending())
        uri = spool.store().uri
        error = bring(spool)
        left = len(spool.pending())
        print(f"sweep {short(spool.sweep_id)}: {before - left} of {before} records uploaded to {uri}")
        if error is not None:
            print(f"error: sweep {short(spool.sweep_id)}: {error}", file=sys.stderr)
            refused = True
    if refused:
        sys.exit(1)


def cli() -> None:
    """The command: 0 if nothing waits any more, 1 if a store did not take all, 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
