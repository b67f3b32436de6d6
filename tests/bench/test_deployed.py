"""conf/deployed: engines as people have them, each of which composes, fits its device and names its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ray_jobs.drive.config import BenchConfig
from ray_jobs.engines.config import blocks_that_fit
from tracking.cli import CONF
from tracking.store.reader import cell_titles

NAMES = sorted(path.stem for path in (CONF / "deployed").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_deployed_engine_has_the_memory_of_its_device(name: str) -> None:
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = OmegaConf.to_object(compose("config", [f"deployed={name}", "workload=mixed", "strategy=stock"]))
    assert job.deployed == name and job.engine.kind == "vllm_sim"
    assert job.engine.num_blocks is None  # nobody sets them on a server
    assert blocks_that_fit(job.engine) * job.engine.block_size >= job.engine.max_model_len
    lines = Path(CONF / "deployed" / f"{name}.yaml").read_text().splitlines()
    assert lines[1].startswith("# ") and len(lines[1]) > 30  # why people run it


def test_cells_of_deployed_engines_are_told_apart_by_their_names() -> None:
    cell = {"workload": "azure_conv", "rate": "3", "engine": "vllm_sim", "workload.arrivals.kind": "poisson"}
    cells = [
        tuple((cell | {"deployed": name, "engine.model": name, "engine.max_num_seqs": seats}).items())
        for name, seats in (("8b", "256"), ("32b", "1024"))
    ]
    assert list(cell_titles(cells).values()) == ["azure_conv at 3 req/s, 8b", "azure_conv at 3 req/s, 32b"]
