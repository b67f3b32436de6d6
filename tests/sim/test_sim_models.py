"""Shapes, devices and the step-time model against published numbers and plain arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from sim_bench import CONF, compose_job

from ray_jobs.engines.config import EngineConfig, blocks_that_fit
from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.hardware import Hardware
from ray_jobs.engines.sim.roofline import BATCH_COLUMNS, StepTimeModel
from ray_jobs.engines.sim.shape import ModelShape


def shape(name: str) -> ModelShape:
    return ModelShape(**yaml.safe_load((CONF / "model_shape" / f"{name}.yaml").read_text()))


def hardware(name: str) -> Hardware:
    values = yaml.safe_load((CONF / "hardware" / f"{name}.yaml").read_text())
    return Hardware(**{k: float(v) if k not in ("name", "source") else v for k, v in values.items()})


@pytest.mark.parametrize(
    ("name", "billions"),
    [("llama-3.1-8b", 8.03), ("llama-3.1-70b-tp8", 70.55), ("qwen2.5-7b", 7.62), ("olmoe-1b-7b", 6.92)],
)
def test_parameters_are_the_published_ones(name, billions):
    assert shape(name).total_params / 1e9 == pytest.approx(billions, rel=0.003)


def test_active_parameters_of_the_mixture_of_experts():
    moe = shape("olmoe-1b-7b")
    assert (moe.active_params + 2 * moe.head_params) / 1e9 == pytest.approx(1.28, rel=0.01)


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [("llama-3.1-8b", 131072), ("llama-3.1-70b-tp8", 40960), ("qwen2.5-7b", 57344)],
)
def test_kv_cache_of_a_token(name, bytes_per_token):
    assert shape(name).kv_bytes_per_token == bytes_per_token


def test_the_config_file_says_what_the_shape_says(tmp_path):
    config = json.loads((shape("qwen2.5-7b").write_config(tmp_path, 40000) / "config.json").read_text())
    assert config["num_key_value_heads"] == 4 and config["max_position_embeddings"] == 40000


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "a100-sxm", "l4"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen2.5-7b", "olmoe-1b-7b"])
def test_every_device_holds_the_small_models(name, model):
    job = compose_job(
        f"hardware@engine.sim.hardware={name}", f"model_shape@engine.sim.model_shape={model}",
        "engine.max_model_len=2048", "engine.gpu_memory_utilization=0.95",
    )  # fmt: skip
    assert blocks_that_fit(job.engine) * 16 > 2048


def test_a_model_that_does_not_fit_is_one_clear_line():
    with pytest.raises(
        Exception, match=r"engine\.max_model_len=131072: must be <= \d{5}, the tokens that L4 holds"
    ):
        compose_job("hardware@engine.sim.hardware=l4", "engine.max_model_len=131072")


def test_a_simulation_needs_its_section():
    with pytest.raises(ValueError, match=r"engine\.sim=None: must be given"):
        EngineConfig(kind="vllm_sim", model="x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("engine.sim.calibration.compute_efficiency=-1", r"engine\.sim\.calibration\.compute_efficiency=-1"),
        ("engine.sim.hardware.flops=0", r"engine\.sim\.hardware\.flops=0"),
        ("engine.sim.model_shape.kv_heads=5", r"kv_heads=5: must be a divisor of 32"),
        ("engine.sim.model_shape.dtype=fp3", r"dtype='fp3': must be one of bfloat16"),
        ("engine.sim.wall_timeout_s=0", r"engine\.sim\.wall_timeout_s=0"),
        ("engine.tensor_parallel_size=8", r"engine\.sim\.model_shape\.tensor_parallel"),
    ],
)
def test_bad_values_are_named(override, message):
    with pytest.raises(Exception, match=message):
        compose_job(override)


PEAKS = Calibration(
    fitted=True, compute_efficiency=1, bandwidth_efficiency=1, attention_compute_efficiency=1,
    attention_bandwidth_efficiency=1, link_efficiency=1, step_overhead_s=0, request_overhead_s=0, prefill_overhead_s=0,
)  # fmt: skip


def batch(prefill=0, decode=0, prefills=0, decodes=0, context=0, prefill_context=0) -> dict[str, int]:
    return dict(
        zip(BATCH_COLUMNS, (prefill, decode, prefills, decodes, context, prefill_context), strict=True)
    )


def test_one_decode_reads_all_weights_once():
    model, gpu = shape("llama-3.1-8b"), hardware("h100-sxm")
    seconds = StepTimeModel(model, gpu, PEAKS).seconds(batch(decode=1, decodes=1, context=1000))
    read = (
        model.weight_bytes - 2 * model.head_params + 131072 * 1001
    )  # the input embedding is looked up, not read
    assert seconds == pytest.approx(read / 3.35e12, rel=1e-6)


def test_a_long_prefill_is_bound_by_compute():
    model, gpu = shape("llama-3.1-8b"), hardware("h100-sxm")
    seconds = StepTimeModel(model, gpu, PEAKS).seconds(batch(prefill=8192, prefills=1))
    layers = 2 * 6.98e9 * 8192 / 989.4e12
    attention = 4 * 32 * 4096 * 8192**2 / 2 / 989.4e12
    assert seconds == pytest.approx(layers + attention, rel=0.01)


def test_a_short_prefill_is_bound_by_its_launches():
    times = StepTimeModel(shape("llama-3.1-8b"), hardware("h100-sxm"), replace(PEAKS, prefill_step_s=0.015))
    assert times.seconds(batch(prefill=100, prefills=1, decode=4, decodes=4)) == 0.015
    assert times.seconds(batch(prefill=8192, prefills=1)) > 0.1
    assert times.seconds(batch(decode=4, decodes=4)) < 0.006


def test_few_tokens_touch_few_experts():
    model, gpu = shape("olmoe-1b-7b"), hardware("h100-sxm")
    times = StepTimeModel(model, gpu, PEAKS)
    one, many = (times.seconds(batch(decode=n, decodes=n)) for n in (1, 256))
    dense_read = model.weight_bytes - 2 * model.head_params
    assert one * 3.35e12 == pytest.approx(2 * (model.active_params + model.head_params), rel=0.01)
    assert many * 3.35e12 == pytest.approx(dense_read, rel=0.05)


def test_eight_devices_share_the_work_and_talk_about_it():
    model, gpu = shape("llama-3.1-70b-tp8"), hardware("h100-sxm")
    free_talk = replace(gpu, link_bandwidth=1e30)
    work = batch(decode=64, decodes=64, context=64_000)
    alone = StepTimeModel(model, free_talk, PEAKS).seconds(work)
    assert alone == pytest.approx(
        (70.55e9 * 2 - 2 * model.head_params) / 8 / 3.35e12 + 40960 * 64_064 / 3.35e12, rel=0.01
    )
    talk = 64 * 4 * 80 * 8192 * 2 * 7 / 8 / 450e9
    assert StepTimeModel(model, gpu, PEAKS).seconds(work) == pytest.approx(alone + talk)


def test_several_devices_need_a_link():
    with pytest.raises(ValueError, match=r"engine\.sim\.hardware\.link_bandwidth"):
        StepTimeModel(shape("llama-3.1-70b-tp8"), replace(hardware("h100-sxm"), link_bandwidth=None), PEAKS)


def test_arrays_and_single_steps_agree():
    times = StepTimeModel(
        shape("olmoe-1b-7b"), hardware("l4"), Calibration(prefill_overhead_s=1e-4, prefill_step_s=2e-3)
    )
    draw = np.random.default_rng(0)
    steps = pd.DataFrame({name: draw.integers(0, 2000, 50) for name in BATCH_COLUMNS})
    steps["prefill_context"] = steps[["context_tokens", "prefill_context"]].min(axis=1)
    steps["decode_reqs"] += 1
    one_by_one = [times.seconds(record) for record in steps.to_dict("records")]
    assert times.seconds_of(steps) == pytest.approx(one_by_one)


def test_an_empty_step_takes_no_time():
    assert StepTimeModel(shape("llama-3.1-8b"), hardware("l4"), Calibration()).seconds(batch()) == 0.0
