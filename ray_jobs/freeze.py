"""`bidkv-freeze workload=… out=trace.parquet`: a workload as a frozen trace file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from ray_jobs.workload.config import MOST_SEED, WorkloadConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.left_out import left_out_line
from ray_jobs.workload.no_effect import idle_workload_keys
from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.errors import require
from tracking.places import require_file
from tracking.typed import Idle, refuse_idle, refuse_unknown, typed


@dataclass
class FreezeConfig:
    """A workload, the model it must suit, and the file to write (read it with `workload=frozen`)."""

    workload: WorkloadConfig = MISSING
    seed: int = 0
    vocab_size: int = 32000
    max_model_len: int = 8192
    out: str = MISSING

    def __post_init__(self) -> None:
        require(0 <= self.seed <= MOST_SEED, "seed", self.seed, f"from 0 to {MOST_SEED}")
        require(self.vocab_size > 4, "vocab_size", self.vocab_size, "> 4")
        require(
            self.max_model_len > 1,
            "max_model_len",
            self.max_model_len,
            "> 1: a request has a prompt and an output",
        )
        require_file("out", self.out, ".parquet")
        source = self.workload.source.path
        same = source is not None and Path(self.out).absolute() == Path(source).expanduser().absolute()
        require(not same, "out", self.out, "another file than workload.source.path, which would be gone")


def idle_keys(workload: WorkloadConfig) -> Iterator[Idle]:
    """Those of the workload, and the seed of one that has its requests already."""
    yield from idle_workload_keys(workload)
    if workload.source.kind == "frozen":
        yield Idle("seed", "a frozen trace has its requests already")


ConfigStore.instance().store(name="freeze_schema", node=FreezeConfig)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="freeze")
def main(config: DictConfig) -> None:
    with exit_on_bad_input():
        job: FreezeConfig = OmegaConf.to_object(config)
        keys = typed()
        refuse_unknown(keys, FreezeConfig)
        refuse_idle(keys, idle_keys(job.workload))
        trace = freeze_trace(job.workload, job.seed, job.vocab_size, job.max_model_len)
        trace.save(job.out)
    line = left_out_line(trace, "max_model_len")
    if line:
        print(line)
    print(f"{job.out}: {len(trace.requests)} requests, hash {trace.hash}")


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
