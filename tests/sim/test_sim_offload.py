"""Host memory for KV blocks: vLLM's own connector on the simulator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_bench import compose_job, compose_shape, preemptions, random_trace, run, tiny_hardware, variant
from test_sim_retention import crowd, rounds

from bidkv import create_default_registry
from bidkv.strategies.base import Strategy
from ray_jobs.engines.shared import host_eviction
from ray_jobs.engines.shared.host_eviction import NAME, PLACE
from ray_jobs.engines.sim.calibration import Calibration


def totals(outcome):
    ended = [event for event in outcome.events if event["type"] == "request"]
    names = ("executed", "recomputed", "cached", "cached_resume", "restored", "restored_resume")
    return {name: sum(event[name] for event in ended) for name in names}


@pytest.fixture()
def pressed(tiny_parts, tmp_path):
    """A run with little device memory, and one with host memory besides, at a bandwidth."""
    trace = random_trace(3, 60, rate=400.0, shared=64)

    def at(host_blocks: int, bandwidth: float = 1e10):
        parts = variant(tiny_parts, blocks=40, host_blocks=host_blocks)
        hardware = replace(tiny_hardware(), host_bandwidth=bandwidth)
        return run(parts, trace, tmp_path, check=True, shortcuts=False, hardware=hardware)

    return at


def test_a_victim_gets_back_from_host_memory_what_the_device_lost(pressed):
    without, offloaded = pressed(0), pressed(2000)
    assert preemptions(without) and preemptions(offloaded)
    plain, host = totals(without), totals(offloaded)
    assert plain["restored"] == plain["restored_resume"] == 0
    assert host["restored"] + host["restored_resume"] > 0
    assert host["recomputed"] < plain["recomputed"]
    assert {log.status for log in offloaded.logs} == {"ok"}


def test_a_slow_link_costs_time_and_no_tokens(pressed):
    fast, slow = pressed(2000), pressed(2000, bandwidth=1e6)
    assert slow.duration_s > fast.duration_s
    assert sum(log.output_tokens for log in slow.logs) == sum(log.output_tokens for log in fast.logs)


def test_policies_see_what_a_victim_gets_back_and_at_which_price(tiny_parts, tmp_path, monkeypatch):
    seen = []
    policy = type(create_default_registry().get("lcf").victim)
    select = policy.select

    def watched(self, candidates, now):
        seen.extend((state.host_tokens, state.prompt_tokens, self_pool()) for state in candidates)
        return select(self, candidates, now)

    pools = []
    bind = Strategy.bind
    monkeypatch.setattr(Strategy, "bind", lambda self, pool: (pools.append(pool), bind(self, pool))[1])
    monkeypatch.setattr(policy, "select", watched)

    def self_pool():
        return pools[-1].load_s_per_token

    trace = random_trace(3, 60, rate=400.0, shared=64)
    hardware = replace(tiny_hardware(), host_bandwidth=1e9)
    parts = variant(tiny_parts, blocks=40, host_blocks=2000)
    run(parts, trace, tmp_path, strategy="lcf", shortcuts=False, hardware=hardware)
    host = [tokens for tokens, _, _ in seen]
    assert max(host) >= 16 and min(host) == 0
    assert all(tokens % 16 == 0 and tokens <= prompt for tokens, prompt, _ in seen), (
        "whole blocks of the prompt"
    )
    shape = compose_shape()
    price = shape.kv_bytes_per_token / (1e9 * Calibration().host_efficiency)
    assert seen[-1][2] == pytest.approx(price, rel=0.3)
    seen.clear()
    run(variant(tiny_parts, blocks=40), trace, tmp_path, strategy="lcf", name="without")
    assert seen and {(tokens, price) for tokens, _, price in seen} == {(None, None)}


def test_the_same_run_twice_is_the_same(pressed):
    one, two = pressed(30), pressed(30)
    assert one.events == two.events and one.steps.equals(two.steps)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["engine.kv_offload_gib=4", "engine.prefix_caching=false"], "engine.kv_offload_gib.*prefix_caching"),
        (["engine.kv_offload_gib=-1"], "engine.kv_offload_gib"),
        (["engine.kv_offload_eviction=fifo"], "engine.kv_offload_eviction"),
        (
            [
                "engine.kv_offload_gib=4",
                "engine.kv_offload_eviction=arc",
                "+engine.extra.kv_transfer_config={}",
            ],
            "engine.kv_offload_eviction=.*beside engine.extra.kv_transfer_config",
        ),
        (["engine.kv_offload_gib=4", "engine.sim.hardware.host_bandwidth=null"], "host_bandwidth"),
        (["engine.sim.kv_offload_pools=-1"], "engine.sim.kv_offload_pools=-1.0: must be >= 0"),
        (
            ["engine.sim.kv_offload_pools=0", "engine.kv_offload_gib=4"],
            "kv_offload_pools=0.0: must be null beside",
        ),
        (
            ["engine=vllm_shape", "engine.sim.kv_offload_pools=2"],
            "kv_offload_pools=2.0: must be null with engine.kind=vllm",
        ),
        (
            ["engine.sim.kv_offload_pools=2", "engine.prefix_caching=false"],
            "engine.kv_offload_gib.*prefix_caching",
        ),
    ],
)
def test_what_cannot_be_is_said(overrides, words):
    with pytest.raises(ValueError, match=words):
        compose_job(*overrides)


def test_tensor_parallel_devices_share_the_host_memory():
    from ray_jobs.engines.sim.build import host_gib

    assert host_gib(compose_job("engine.kv_offload_gib=64").engine) == 64
    wide = compose_job("engine.kv_offload_gib=64", "model_shape@engine.sim.model_shape=llama-3.1-70b-tp8")
    assert host_gib(wide.engine) == 8
    assert host_gib(compose_job().engine) is None


def test_host_memory_may_be_said_in_pools() -> None:
    """A block of 16 tokens of the 8B is 2 MiB; results name the GiB."""
    engine = compose_job("engine.num_blocks=7800", "engine.sim.kv_offload_pools=2").engine
    assert (engine.kv_offload_gib, engine.sim.kv_offload_pools) == (2 * 7800 / 512, None)
    wide = compose_job(
        "model_shape@engine.sim.model_shape=llama-3.1-70b-tp8",
        "engine.num_blocks=7800",
        "engine.sim.kv_offload_pools=1",
    ).engine
    assert wide.kv_offload_gib == 8 * 7800 * 16 * wide.sim.model_shape.kv_bytes_per_token / 2**30


@pytest.mark.parametrize("rule", ["lfu", "depth", "ttl_learned", "auction", "belady_oracle"])
def test_rules_of_retention_find_as_much_as_stock_where_there_is_host_memory(tiny_parts, tmp_path, rule):
    """vLLM's hashes differ from process to process, and what stock finds by a few percent. Without prices and without
    `HostCopies.used` the rules that keep long found 6 to 12 % less."""
    parts = variant(tiny_parts, blocks=61, host_blocks=100)
    stock, ours = (run(parts, crowd(), tmp_path, retention=r, shortcuts=False) for r in ("lru", rule))
    found = [totals(outcome)["cached"] + totals(outcome)["restored"] for outcome in (stock, ours)]
    assert found[1] >= 0.95 * found[0]
    assert ours.events[0]["retention_decides"] and ours.events[0]["host_memory"]
    assert not [event for event in ours.events if event["type"] == "strategy_error"]


def test_host_memory_may_evict_by_the_same_rule(tiny_parts, tmp_path):
    """By `lru` record for record what vLLM's own does; a rule decides in both places."""
    pytest.importorskip(
        "vllm.v1.kv_offload.cpu.policies.factory", reason="this vLLM loads no policy but its own"
    )
    stock = variant(tiny_parts, blocks=61, host_blocks=100)
    ours = variant(tiny_parts, blocks=61, host_blocks=100)
    extra = {"eviction_policy": NAME, "cache_policy_module_path": PLACE}
    ours.vllm_config.kv_transfer_config.kv_connector_extra_config.update(extra)
    by_lru = [run(parts, crowd(), tmp_path, retention="lru", shortcuts=False) for parts in (stock, ours)]
    assert [outcome.events[0].pop("host_eviction") for outcome in by_lru] == ["engine", "retention"]
    assert by_lru[0].events == by_lru[1].events
    runs = [
        run(parts, crowd(), tmp_path, retention="belady_oracle", shortcuts=False) for parts in (stock, ours)
    ]
    found = [totals(outcome)["cached"] + totals(outcome)["restored"] for outcome in runs]
    assert found[1] > found[0], "foresight in both places finds more than on the device alone"
    assert not [event for event in runs[1].events if event["type"] == "strategy_error"]


@pytest.mark.parametrize(("kept", "decides"), [(1, True), (2, False)])
def test_a_rule_decides_only_where_the_connector_tells_what_it_has(tiny_parts, tmp_path, kept, decides):
    parts = variant(tiny_parts, blocks=25, host_blocks=44)
    parts.vllm_config.kv_transfer_config.kv_connector_extra_config["store_threshold"] = kept
    runs = [run(parts, rounds(), tmp_path, retention=r, shortcuts=False) for r in ("lru", "belady_oracle")]
    assert runs[1].events[0]["retention_decides"] is decides
    same = [[e for e in outcome.events if e["type"] == "request"] for outcome in runs]
    assert (same[0] == same[1]) is not decides


def test_a_vllm_that_loads_no_policy_is_refused(monkeypatch):
    monkeypatch.setattr(host_eviction, "find_spec", lambda name: None)
    engine = compose_job("engine.kv_offload_gib=4", "engine.kv_offload_eviction=retention").engine
    with pytest.raises(
        ValueError, match="engine.kv_offload_eviction=.*must be lru or arc: this vLLM loads no policies"
    ):
        host_eviction.eviction_arguments(engine)
    engine.kv_offload_eviction = "arc"
    arguments = host_eviction.eviction_arguments(engine)["kv_transfer_config"]
    assert arguments.kv_connector_extra_config == {"eviction_policy": "arc"}
