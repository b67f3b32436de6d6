"""Two real engines on the CPU behind Ray Serve LLM's KV-aware router, which scores with Dynamo's code."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec

import numpy as np
import pytest
import ray
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)
from ray_jobs.engines.serve.fleet import Backend
from ray_jobs.workload.trace import TraceRequest
from tracking.cli import CONF

FLEET = [
    "engine=vllm_cpu", "engine.replicas=2", "engine.num_cpus=1", "engine.max_model_len=512", "engine.num_blocks=40",
    "engine.prefix_caching=true", "router@engine.router=kv-aware", "strategy=backfill",
]  # fmt: skip


@pytest.fixture
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.engine
@pytest.mark.long
@pytest.mark.skipif(find_spec("dynamo") is None, reason="ai-dynamo-runtime is not installed")
def test_who_has_the_beginning_gets_the_rest_and_nothing_is_left_booked(cluster, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = OmegaConf.to_object(compose("config", FLEET))
    asyncio.run(ask(Backend(job.engine, tmp_path), job))


async def ask(fleet, job):
    prompts = np.random.default_rng(0).integers(3, 2000, (3, 300)).tolist()
    environment = await fleet.start()
    try:
        assert environment["ai_dynamo_runtime"]
        service = fleet._tracker._tracker._svc
        await fleet.begin(fleet.adapter_settings(job, "run"))
        assert await until(lambda: blocks_of(service, prompts[0]), [0, 0])
        homes = []
        for number, prompt in enumerate(prompts):
            homes.append(await served(fleet, f"first-{number}", prompt))
            found = await until(lambda prompt=prompt: blocks_of(service, prompt), None)
            assert sorted(found)[0] == 0 < sorted(found)[1]
        for turn in range(3):
            for number, prompt in enumerate(prompts):
                assert await served(fleet, f"again-{turn}-{number}", [*prompt, 7, turn]) == homes[number]
        (loads,) = service.loads()
        for load in loads["loads"]:
            assert load["potential_prefill_tokens"] == load["potential_decode_blocks"] == 0
        await fleet.begin(fleet.adapter_settings(job, "next"))
        assert await until(lambda: blocks_of(service, prompts[0]), [0, 0])
        await fleet.end()
    finally:
        await fleet.stop()


async def served(fleet, name, prompt):
    request = TraceRequest(name, 0.0, np.array(prompt, dtype=np.int32), 4, 4)
    said = [len(tokens) async for relayed in fleet.generate(request) for _, tokens in relayed.chunks]
    assert sum(said) == 4
    return fleet._served_by[name]


async def blocks_of(service, prompt):
    found = await service.overlap_scores(
        {"model_name": "default", "tenant_id": "default", "token_ids": prompt}
    )
    return [worker["device_blocks"] for worker in found["workers"]]


async def until(ask, expected):
    """What `ask` answers once it is that, or once any is not 0 where None is expected; False after ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = await ask()
        if answer == expected if expected is not None else any(answer):
            return answer
        await asyncio.sleep(0.05)
    return False
