"""Engines on a CPU reserve bytes for KV: a share of a small machine's memory is less than the process itself."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401  (registers the schema)
from ray_jobs.engines.vllm import Backend
from tracking.cli import CONF


def test_vllm_on_a_cpu_gets_bytes(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", ["engine=vllm_cpu"])).engine
    arguments = Backend(config, tmp_path)._engine_args()
    token = 2 * 2 * config.tiny.hidden_size * 4  # keys and values of two layers in float32
    assert config.max_model_len * token < arguments["kv_cache_memory_bytes"] <= 1 << 30
    assert not any("KVCACHE" in name for name in config.env)


def test_sglang_on_a_cpu_reserves_its_blocks() -> None:
    """SGLang has no bytes: it reserves `num_blocks` pages if they fit in the share, which must not be the limit."""
    config = OmegaConf.load(CONF / "engine" / "sglang_cpu.yaml")
    assert config.num_blocks > 0 and config.gpu_memory_utilization >= 0.5
