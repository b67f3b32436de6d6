"""`python -m ray_jobs.freeze workload=… out=trace.parquet`: a workload as a frozen trace file."""

from __future__ import annotations

from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.freeze import freeze_trace
from tracking.cli import CONF, exit_on_bad_input, run_command


@dataclass
class FreezeConfig:
    """A workload, the model it must suit, and the file to write (read it with `workload=frozen`)."""

    workload: WorkloadConfig = MISSING
    seed: int = 0
    vocab_size: int = 32000
    max_model_len: int = 8192
    out: str = MISSING


ConfigStore.instance().store(name="freeze_schema", node=FreezeConfig)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="freeze")
def main(config: DictConfig) -> None:
    with exit_on_bad_input():
        job: FreezeConfig = OmegaConf.to_object(config)
        trace = freeze_trace(job.workload, job.seed, job.vocab_size, job.max_model_len)
        trace.save(job.out)
    print(f"{job.out}: {len(trace.requests)} requests, hash {trace.hash}")


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
