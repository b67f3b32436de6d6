"""The real engine with vLLM's own connector moves to and from host memory what the simulator moves."""

from __future__ import annotations

import pytest
from conftest import record_engines
from sim_bench import compose_job, random_trace
from test_sim_replay import LIMITS, recorded_steps

from bidkv.adapters.shared.settings import AdapterSettings

pytestmark = pytest.mark.engine
SPEC = "{kv_connector_extra_config: {spec_name: MemorySpec, spec_module_path: memory_spec}}"
OFFLOAD = [
    *LIMITS,
    "engine.prefix_caching=true",
    "engine.kv_offload_gib=0.002",
    f"+engine.extra.kv_transfer_config={SPEC}",
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two runs of the real engine, one after another: nothing is left in host memory by the first."""
    folder = tmp_path_factory.mktemp("offloaded")
    trace = random_trace(3, 34, rate=60, prompt=(10, 90), output=(40, 120), shared=70)
    trace.save(folder / "trace.parquet")
    runs = [
        {"id": name, "strategy": name, "trace": str(folder / "trace.parquet")}
        for name in ("lcf", "preempt-evict")
    ]
    engine = {"overrides": [*OFFLOAD, "run.log_schedule=true"], "runs": runs}
    return trace, record_engines(folder, [engine])


@pytest.mark.parametrize("strategy", ["lcf", "preempt-evict"])
def test_the_same_blocks_move_and_the_same_victims_fall(recorded, tmp_path, strategy):
    from ray_jobs.engines.sim.build import build_parts
    from ray_jobs.engines.sim.conservation import check_finished
    from ray_jobs.engines.sim.replay import replay

    trace, results = recorded
    result = results[strategy]
    assert (result.requests["status"] == "ok").all()
    ended = [event for event in result.events if event["type"] == "request"]
    for event in ended:
        check_finished(event)
    assert sum(event["restored_resume"] for event in ended) > 100

    job = compose_job(
        *OFFLOAD, "engine.sim.async_scheduling=false",
        "model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu",
    )  # fmt: skip
    steps = recorded_steps(result)
    settings = AdapterSettings(strategy, events_path=str(tmp_path / "events.jsonl"), steps_path="memory")
    replayed = replay(build_parts(job.engine, tmp_path), trace, result.events, steps, settings)
    assert replayed.difference is None and replayed.preemptions >= 10
    moves = [move["load"] for step in steps for move in step["kv_started"]]
    assert moves.count(True) >= 5 and moves.count(False) >= 20
