"""conf/deployed: engines as people have them, each of which composes, fits its device and names its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ray_jobs.drive.config import BenchConfig
from ray_jobs.engines.config import blocks_that_fit
from ray_jobs.engines.sim.build import known_model, read_layout
from tracking.cli import CONF
from tracking.store.reader import cell_titles

NAMES = sorted(path.stem for path in (CONF / "deployed").glob("*.yaml"))


WEIGHTS = {  # bytes of all devices: what the makers' files have, as far as they publish it
    "gpt-oss-120b-h100": 70.8e9,  # 60.8 GiB of files, and what Marlin's kernels pad 2,880 to 3,072 with
    "gemma-3-27b-h100": 54.0e9,
    "llama-3.1-70b-fp8-h100": 72.7e9,
    "deepseek-v3-8xh200": 684e9,  # each device has some matrices whole
}


@pytest.mark.parametrize("name", NAMES)
def test_a_deployed_engine_has_the_memory_of_its_device(name: str, tmp_path: Path) -> None:
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = OmegaConf.to_object(compose("config", [f"deployed={name}", "workload=mixed", "strategy=stock"]))
    assert job.deployed == name and job.engine.kind == "vllm_sim"
    assert job.engine.num_blocks is None  # nobody sets them on a server
    shape = job.engine.sim.model_shape
    assert bool(shape.config) == (name in WEIGHTS)
    if shape.config:
        config, model = known_model(job.engine, tmp_path)
        assert model.weight_bytes * shape.tensor_parallel == pytest.approx(WEIGHTS[name], rel=0.02)
        layout = read_layout(job.engine, config, model)  # raises if a request of max_model_len does not fit
        assert layout.kv_cache_config.num_blocks > 100
    else:
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
