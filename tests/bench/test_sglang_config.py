"""What SGLang cannot do, does not simulate or is told elsewhere is one line that names the key and the cure."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)
from ray_jobs.engines.config import EngineConfig
from tracking.cli import CONF, one_line


def engine_of(kind: str, *overrides: str) -> EngineConfig:
    words = [f"engine={kind}", "engine.python=null", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", words)).engine


def line_of(kind: str, *overrides: str) -> str:
    with pytest.raises(Exception) as refused:
        engine_of(kind, *overrides)
    return one_line(refused.value)


@pytest.mark.parametrize("kind", ["sglang", "sglang_sim"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("max_total_tokens=500", "num_blocks"),
        ("max_running_requests=2", "max_num_seqs"),
        ("page_size=64", "block_size"),
        ("chunked_prefill_size=64", "max_num_batched_tokens"),
        ("context_length=512", "max_model_len"),
        ("disable_radix_cache=true", "prefix_caching"),
        ("mem_fraction_static=0.5", "gpu_memory_utilization"),
    ],
)
def test_a_key_of_the_engine_is_said_once(kind: str, theirs: str, ours: str) -> None:
    line = line_of(kind, f"+engine.extra.{theirs}")
    assert f"engine.extra.{theirs.split('=')[0]}=" in line and f"left out: engine.{ours} says it" in line


@pytest.mark.parametrize(
    "key",
    [
        "stream_interval=50", "kv_cache_dtype=fp8_e5m2", "quantization=fp8", "speculative_num_steps=3", "hicache_ratio=2",
        "num_continuous_decode_steps=8", "ep_size=2", "enable_dp_attention=true", "enable_hierarchical_cache=true",
        "enable_priority_scheduling=true", "pp_size=1", "nonsense=1",
    ],
)  # fmt: skip
def test_what_is_not_simulated_is_refused_and_a_real_one_is_asked(key: str) -> None:
    line = line_of("sglang_sim", f"+engine.extra.{key}")
    assert f"engine.extra.{key.split('=')[0]}=" in line and "schedule_policy" in line
    assert key.split("=")[0] in engine_of("sglang", f"+engine.extra.{key}").extra


@pytest.mark.parametrize(
    "key",
    [
        "schedule_policy=lpm", "schedule_conservativeness=0.3", "enable_mixed_chunk=true", "max_prefill_tokens=4096",
        "prefill_max_requests=2", "radix_eviction_policy=lfu",
    ],
)  # fmt: skip
def test_what_its_scheduler_reads_is_taken(key: str) -> None:
    assert list(engine_of("sglang_sim", f"+engine.extra.{key}").extra) == [key.split("=")[0]]


def test_an_order_that_differs_from_run_to_run_is_not_simulated() -> None:
    assert "equal runs would differ" in line_of("sglang_sim", "+engine.extra.schedule_policy=random")


@pytest.mark.parametrize("kind", ["sglang", "sglang_sim"])
def test_a_prefill_holds_a_page(kind: str) -> None:
    short = ("engine.block_size=16", "engine.max_num_batched_tokens=15")
    assert "engine.max_num_batched_tokens=15: must be at least engine.block_size=16" in line_of(kind, *short)
    assert engine_of(kind, short[0], "engine.max_num_batched_tokens=16").max_num_batched_tokens == 16


@pytest.mark.parametrize("name", ["SGLANG_REQ_WAITING_TIMEOUT", "SGLANG_REQ_RUNNING_TIMEOUT"])
def test_time_limits_of_the_real_clock_are_not_simulated(name: str) -> None:
    line = line_of("sglang_sim", f"+engine.env.{name}='1'")
    assert f"engine.env.{name}=" in line and "run.request_timeout_s" in line
    assert name in engine_of("sglang", f"+engine.env.{name}='1'").env
    assert f"engine.env.{name}=" in line_of("sglang_sim", f"engine.pass_env=[{name}]")
