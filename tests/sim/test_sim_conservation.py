"""No block and no token is lost, nothing deadlocks, whatever the load, the memory and the policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_bench import BLOCK, MAX_LEN, random_trace, run, tiny_hardware, variant

from bidkv import create_default_registry
from ray_jobs.engines.sim.check import check_conservation
from ray_jobs.engines.sim.conservation import ConservationError, check_finished

LONGEST = 1 + 40 + 120 + 90  # null block aside, one request must fit


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(1, 30),
    rate=st.sampled_from([5.0, 200.0, 1e6]),
    shared=st.sampled_from([0, 40]),
    blocks=st.integers(-(-LONGEST // BLOCK) + 1, 80),
    seqs=st.integers(1, 16),
    batched_tokens=st.sampled_from([32, 100, 512]),
    caching=st.booleans(),
    overlap=st.booleans(),
    shortcuts=st.booleans(),
    watermark=st.sampled_from([0.0, 0.05]),
    reserve=st.booleans(),
    users=st.sampled_from([None, 3]),
    host_blocks=st.sampled_from([0, 0, 20, 1000]),
    host_bandwidth=st.sampled_from([1e6, 1e10]),
    strategy=st.sampled_from(create_default_registry().list_strategies()),
)
def test_every_request_finishes_and_every_token_is_accounted_for(
    tiny_parts, seed, count, rate, shared, blocks, seqs, batched_tokens, caching, overlap, shortcuts, watermark,
    reserve, users, host_blocks, host_bandwidth, strategy,
):  # fmt: skip
    caching = caching or create_default_registry().get(strategy).needs_cache
    parts = variant(
        tiny_parts, blocks=blocks, seqs=seqs, caching=caching, overlap=overlap, batched_tokens=max(batched_tokens, seqs),
        watermark=watermark, scheduler_reserve_full_isl=reserve, host_blocks=host_blocks if caching else 0,
    )  # fmt: skip
    trace = random_trace(seed, count, rate=rate, shared=shared, users=users)
    with TemporaryDirectory() as folder:
        hardware = replace(tiny_hardware(), host_bandwidth=host_bandwidth)
        outcome = run(
            parts, trace, Path(folder), strategy=strategy, check=True, shortcuts=shortcuts, hardware=hardware
        )
    assert outcome.status == "finished"
    assert {log.status for log in outcome.logs} == {"ok"}
    ended = [event for event in outcome.events if event["type"] == "request"]
    assert len(ended) == count and not outcome.events[-1]["degraded"]
    scheduled = (outcome.steps["prefill_tokens"] + outcome.steps["decode_tokens"]).sum()
    assert scheduled == sum(event["executed"] for event in ended)


def test_the_longest_request_is_as_long_as_assumed():
    assert LONGEST <= MAX_LEN


class TestTheCheckItself:
    """It must notice what it is there for."""

    @pytest.fixture()
    def scheduler(self, tiny_parts, tmp_path):
        from ray_jobs.engines.sim.build import make_request
        from ray_jobs.engines.sim.clock import VirtualClock
        from ray_jobs.engines.sim.scheduler import make_scheduler

        parts = variant(tiny_parts, blocks=40, overlap=False)
        scheduler = make_scheduler(
            parts, {"strategy": "lcf", "steps_path": "memory"}, VirtualClock(), shortcuts=False
        )
        for i in range(2):
            scheduler.add_request(
                make_request(
                    parts, f"r{i}", [5 + i] * 50, max_tokens=9, arrival_time=0.0, priority=0, declared={}
                )
            )
        scheduler.schedule()
        check_conservation(scheduler)
        return scheduler

    def held(self, scheduler):
        return scheduler.kv_cache_manager.coordinator.single_type_managers[0].req_to_blocks["r0"]

    def test_a_lost_block(self, scheduler):
        self.held(scheduler).pop()
        with pytest.raises(ConservationError, match="ref_cnt|room"):
            check_conservation(scheduler)

    def test_a_block_freed_while_held(self, scheduler):
        scheduler.kv_cache_manager.block_pool.free_blocks([self.held(scheduler)[0]])
        with pytest.raises(ConservationError, match="free and held"):
            check_conservation(scheduler)

    def test_a_block_held_twice(self, scheduler):
        self.held(scheduler).append(self.held(scheduler)[0])
        with pytest.raises(ConservationError, match="holds a block twice"):
            check_conservation(scheduler)

    def test_a_token_counted_twice(self, scheduler):
        scheduler._bidkv_accounts["r0"].executed += 1
        with pytest.raises(ConservationError, match="frontier"):
            check_conservation(scheduler)

    def test_a_request_that_vanished(self, scheduler):
        scheduler.running.pop()
        with pytest.raises(ConservationError, match="not all in running or waiting"):
            check_conservation(scheduler)

    def test_a_finished_request_that_does_not_add_up(self):
        event = {
            "id": "a",
            "prompt": 10,
            "output": 5,
            "recomputed": 3,
            "cached": 2,
            "restored": 0,
            "executed": 15,
        }
        check_finished(event)
        with pytest.raises(ConservationError, match="executed 16"):
            check_finished(event | {"executed": 16})
        check_finished(event | {"restored": 4, "executed": 11})
