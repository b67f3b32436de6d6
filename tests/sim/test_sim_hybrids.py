"""Models that do not keep every token of every layer: windows, states, latent vectors, shared experts."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hybrid_models import TINY, engine_of, write_model
from sim_bench import BLOCK, preemptions, random_trace, run
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

from bidkv.adapters.shared.layout import UnknownLayoutError
from ray_jobs.engines.sim import simulate
from ray_jobs.engines.sim.build import build_parts
from ray_jobs.engines.sim.check import check_blocks
from ray_jobs.engines.sim.conservation import ConservationError
from ray_jobs.engines.sim.roofline import BATCH_COLUMNS, StepTimeModel
from ray_jobs.engines.sim.shortcuts import has_shortcuts
from ray_jobs.engines.sim.work import Batch

BLOCKS = {"windows": 160, "delta-nets": 48, "latent": 64, "mixture": 64}  # few enough for preemptions
LIMITS = (
    "hardware@engine.sim.hardware=local-cpu", "engine.max_model_len=512", "engine.max_num_batched_tokens=256",
    "engine.max_num_seqs=16",
)  # fmt: skip


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """By kind of model: the engine, and what vLLM made of it."""
    found = {}
    for kind, config in TINY.items():
        folder = write_model(tmp_path_factory.mktemp(kind), config)
        engine = engine_of(folder, *LIMITS, f"engine.num_blocks={BLOCKS[kind]}")
        found[kind] = engine, build_parts(engine, folder)
    return found


def groups(parts) -> list[tuple[str, int, int]]:
    """Of each group its kind, its layers and the tokens of a block."""
    return [
        (type(group.kv_cache_spec).__name__, len(group.layer_names), group.kv_cache_spec.block_size)
        for group in parts.kv_cache_config.kv_cache_groups
    ]


def test_groups_are_those_that_vllm_makes(engines):
    assert {kind: groups(parts) for kind, (_, parts) in engines.items()} == {
        "windows": [("SlidingWindowSpec", 1, BLOCK)] * 3 + [("FullAttentionSpec", 1, BLOCK)],
        "delta-nets": [("MambaSpec", 2, BLOCK), ("FullAttentionSpec", 2, BLOCK)],
        "latent": [("MLAAttentionSpec", 2, BLOCK)],
        "mixture": [("FullAttentionSpec", 2, BLOCK)],
    }
    for kind, (engine, parts) in engines.items():
        assert parts.kv_cache_config.num_blocks == BLOCKS[kind]
        assert parts.vllm_config.cache_config.enable_prefix_caching is engine.prefix_caching is True
        assert parts.vllm_config.scheduler_config.enable_chunked_prefill
        assert has_shortcuts(parts.kv_cache_config) == (kind in ("latent", "mixture"))


def test_nothing_stays_behind(engines):
    assert not torch.distributed.is_initialized()
    assert [size.base for size in CPUAttentionBackend.get_supported_kernel_block_sizes()] == [32]
    for _, parts in engines.values():
        assert not parts.vllm_config.compilation_config.static_forward_context


@pytest.mark.parametrize("overlap", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("strategy", ["preempt-evict", "backfill"])
@pytest.mark.parametrize("kind", TINY)
def test_no_block_and_no_token_is_lost(engines, tmp_path, kind, strategy, overlap):
    engine, parts = engines[kind]
    config = replace_scheduler(parts.vllm_config, async_scheduling=overlap)
    trace = random_trace(3, 40, rate=400, shared=70)
    outcome = run(
        replace(parts, vllm_config=config), trace, tmp_path,
        strategy=strategy, check=True, model_shape=engine.sim.model_shape,
    )  # fmt: skip
    assert outcome.status == "finished" and len(preemptions(outcome)) >= 2
    requests = [event for event in outcome.events if event["type"] == "request"]
    assert [event["output"] for event in sorted(requests, key=lambda event: event["id"])] == [
        request.output_tokens for request in trace.requests
    ]
    assert sum(event["cached"] for event in requests) > 0  # prefixes are found in all groups at once


def test_a_block_that_is_lost_is_found_out(engines, tmp_path, monkeypatch):
    engine, parts = engines["windows"]

    def check(scheduler):
        check_blocks(scheduler)
        tables = [table for group in scheduler.kv_cache_manager.coordinator.single_type_managers
                  for table in group.req_to_blocks.values() if table]  # fmt: skip
        if tables:
            tables[0].pop()

    monkeypatch.setattr(simulate, "check_conservation", check)
    with pytest.raises(ConservationError):
        run(parts, random_trace(3, 5), tmp_path, check=True, model_shape=engine.sim.model_shape)


def replace_scheduler(config, **changes):
    """The same configuration but for some settings of the scheduler."""
    config = copy.copy(config)
    config.scheduler_config = copy.copy(config.scheduler_config)
    for key, value in changes.items():
        setattr(config.scheduler_config, key, value)
    return config


def test_two_devices_hold_half_each(tmp_path):
    alone, both = (
        build_parts(
            engine_of(write_model(tmp_path / str(devices), TINY["mixture"]), *LIMITS,
                      f"engine.sim.model_shape.tensor_parallel={devices}"), tmp_path / str(devices)
        )
        for devices in (1, 2)
    )  # fmt: skip
    assert both.block_bytes == alone.block_bytes / 2
    assert both.work.expert_bytes == alone.work.expert_bytes
    assert both.work.attention[0].flops_per_pair == alone.work.attention[0].flops_per_pair
    assert both.kv_cache_config.num_blocks == pytest.approx(2 * alone.kv_cache_config.num_blocks, rel=0.01)


def test_work_is_what_the_layers_say(engines):
    windows = engines["windows"][1].work
    hidden, inner, vocabulary, layers = 64, 128, 2048, 4
    matrices = layers * (4 * hidden * 64 + 3 * hidden * inner)
    norms = layers * (4 * hidden + 2 * 32) + hidden
    assert windows.flops_per_token == 2 * matrices
    assert windows.other_bytes == 4 * (matrices + norms + vocabulary * hidden)  # tied: the embedding is read
    assert {(kind.window, kind.bytes_per_token) for kind in windows.attention} == {
        (64, 3 * 2 * 64 * 4),
        (None, 2 * 64 * 4),
    }
    nets = engines["delta-nets"][1].work
    assert nets.state_bytes > 0 and nets.attention[0].bytes_per_token == 2 * 2 * 64 * 4
    assert nets.missed == 1 - 2 / 8 and nets.expert_bytes == 4 * 8 * 3 * hidden * 64 * 4
    latent = engines["latent"][1].work
    (kind,) = latent.attention
    assert kind.bytes_per_token == 2 * (32 + 16) * 4  # two layers, one vector each
    assert kind.flops_per_pair == kind.prefill_flops_per_pair == 2 * 2 * 2 * (48 + 32)
    # The first layer is dense, and each expert has a bias.
    assert latent.expert_bytes == 4 * (8 * 3 * hidden * 64 + 8)


def test_a_window_bounds_what_a_token_looks_back_at():
    def sums(window, **requests):
        columns = {"prefill": 0, "decode": 0, "prefills": 0, "decodes": 0, "context": 0, "prefill_context": 0}
        batch = Batch(**columns | requests, maximum=max)
        return batch.pairs(window)[0], batch.read(window)

    decodes = {"decode": 4, "decodes": 4, "context": 4 * 99}
    assert sums(None, **decodes) == sums(1000, **decodes) == (400, 400)
    assert sums(64, **decodes) == (4 * 64, 4 * 64)
    prefill = {"prefill": 100, "prefills": 1, "context": 50, "prefill_context": 50}
    assert sums(None, **prefill) == sums(1000, **prefill) == (100 * 50 + 100 * 50, 150)
    assert sums(64, **prefill) == (14 * 57 + 86 * 64, 150)  # 14 tokens until the window is full
    assert sums(32, **prefill) == (100 * 32, 132)


def test_numbers_and_columns_of_steps_agree(engines):
    draw = np.random.default_rng(0)
    steps = pd.DataFrame({name: draw.integers(0, 300, 50) for name in BATCH_COLUMNS})
    steps["prefill_context"] = steps[["context_tokens", "prefill_context"]].min(axis=1)
    steps["decode_reqs"] += 1
    for engine, parts in engines.values():
        sim = engine.sim
        model = StepTimeModel(sim.model_shape, sim.hardware, sim.calibration, parts.work)
        one_by_one = [model.seconds(record) for record in steps.to_dict("records")]
        assert model.seconds_of(steps) == pytest.approx(one_by_one)


@pytest.mark.parametrize(
    ("kind", "manager"), [("windows", "SlidingWindowManager"), ("delta-nets", "MambaManager")]
)
def test_rules_of_retention_are_refused_where_groups_share_a_pool(engines, tmp_path, kind, manager):
    """A conversation's blocks are in several groups' chains there, and no rule follows those."""
    parts, trace = engines[kind][1], random_trace(1, 4)
    with pytest.raises(UnknownLayoutError, match=f"retention 'gdsf'.*{manager}.*choose retention 'lru'$"):
        run(parts, trace, tmp_path, retention="gdsf")
    with pytest.raises(UnknownLayoutError, match=f"admission 'kept-first'.*{manager}.*such as 'backfill'$"):
        run(parts, trace, tmp_path, strategy="kept-first", retention="lru")


def test_a_rule_of_retention_follows_latent_vectors(engines, tmp_path):
    outcome = run(engines["latent"][1], random_trace(1, 40, shared=64), tmp_path, retention="gdsf")
    assert not [event for event in outcome.events if event["type"] == "strategy_error"]
    assert outcome.events[0]["retention"] == "gdsf" and outcome.events[0]["retention_decides"]
