"""vLLM's own knobs against preemption do on the simulator what vLLM's documentation says."""

from __future__ import annotations

import asyncio

import pytest
from sim_bench import compose_job

from ray_jobs.drive.plan import frozen

LOAD = ["workload=h100_mixed", "workload.rate=13", "workload.num_requests=150", "workload.warmup_requests=10"]


@pytest.fixture(scope="module")
def preemptions(tmp_path_factory):
    from ray_jobs.engines import make_backend

    found = {}
    for name in ("preempt-evict", "stock-watermark-0.05", "stock-seqs-16"):
        job = compose_job(*LOAD, "engine.num_blocks=600", "engine.max_num_seqs=32", f"strategy={name}")
        backend = make_backend(job.engine_used, tmp_path_factory.mktemp("engine"))
        asyncio.run(backend.start())
        result = asyncio.run(backend.run(frozen(job), job, name))
        assert result.status == "finished"
        found[name] = sum(event["type"] == "preempt" for event in result.events)
    return found


def test_a_watermark_and_fewer_sequences_preempt_less(preemptions):
    assert preemptions["stock-watermark-0.05"] < preemptions["preempt-evict"]
    assert preemptions["stock-seqs-16"] < preemptions["preempt-evict"]
