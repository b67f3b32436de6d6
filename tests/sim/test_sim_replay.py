"""The simulated scheduler decides what the real engine decided, event by event."""

from __future__ import annotations

import pytest
from conftest import record_engines
from sim_bench import compose_job, random_trace, recorded_steps, talk

from bidkv.adapters.shared.settings import AdapterSettings

pytestmark = pytest.mark.engine
STRATEGIES = ("preempt-evict", "bidkv", "lcf", "static-random")
MAX_LEN, BLOCK, BLOCKS, SEQS = 512, 32, 24, 12
LIMITS = [
    f"engine.max_model_len={MAX_LEN}", f"engine.num_blocks={BLOCKS}", f"engine.block_size={BLOCK}",
    f"engine.max_num_seqs={SEQS}", "engine.max_num_batched_tokens=256",
]  # fmt: skip


def trace_of(seed: int):
    return random_trace(seed, 34, rate=60, prompt=(10, 90), output=(40, 120), shared=70)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Runs of the real engine with every step's schedule, by prefix caching and name: (result, trace)."""
    folder = tmp_path_factory.mktemp("recorded")
    traces = {name: trace_of(i) for i, name in enumerate(STRATEGIES)} | {"sessions": talk(12)}
    for name, trace in traces.items():
        trace.save(folder / f"{name}.parquet")
    engines = []
    for caching in (True, False):
        runs = [
            {
                "id": f"{name}-{caching}",
                "strategy": "lcf" if name == "sessions" else name,
                "trace": str(folder / f"{name}.parquet"),
            }
            for name in traces
        ]
        overrides = [*LIMITS, f"engine.prefix_caching={caching}", "run.log_schedule=true"]
        engines.append({"overrides": overrides, "runs": runs})
    results = record_engines(folder, engines)
    return {
        caching: {name: (results[f"{name}-{caching}"], traces[name]) for name in traces}
        for caching in (True, False)
    }


@pytest.fixture(scope="module", params=[True, False], ids=["caching", "no caching"])
def recorded(request, recordings):
    """The runs of one engine: (prefix caching, {run: (result, trace)})."""
    return request.param, recordings[request.param]


@pytest.fixture(scope="module")
def parts(recorded, tmp_path_factory):
    from ray_jobs.engines.sim.build import build_parts

    job = compose_job(
        *LIMITS, f"engine.prefix_caching={recorded[0]}", "engine.sim.async_scheduling=false",
        "model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu",
    )  # fmt: skip
    return build_parts(job.engine, tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("shortcuts", [True, False], ids=["shortcuts", "stock"])
def test_same_decisions_and_same_victims(recorded, parts, tmp_path, strategy, shortcuts):
    from ray_jobs.engines.sim.replay import replay

    result, trace = recorded[1][strategy]
    assert result.status == "finished" and (result.requests["status"] == "ok").all()
    settings = AdapterSettings(strategy, events_path=str(tmp_path / "events.jsonl"), steps_path="memory")
    steps = recorded_steps(result)
    replayed = replay(parts, trace, result.events, steps, settings, shortcuts)
    assert replayed.difference is None
    assert replayed.steps == len(steps) > 100
    assert replayed.preemptions >= 10


def test_sessions_are_sent_in_turn_and_decided_alike(recorded, parts, tmp_path):
    from ray_jobs.engines.sim.replay import replay

    result, trace = recorded[1]["sessions"]
    table = result.requests.set_index("request_id")
    assert (table["status"] == "ok").all()
    for request in trace.requests:
        for parent in request.parents:
            think = request.think_time_s if parent == request.parents[0] else 0.0
            assert table["sent_t"][request.request_id] >= table["finish_t"][parent] + think
    settings = AdapterSettings("lcf", events_path=str(tmp_path / "events.jsonl"), steps_path="memory")
    replayed = replay(parts, trace, result.events, recorded_steps(result), settings)
    assert replayed.difference is None and replayed.preemptions >= 5
    cached = sum(event["cached"] for event in result.events if event["type"] == "request")
    assert (cached > 1000) == recorded[0]  # with prefix caching later turns find the prompts before them


def test_another_strategy_is_found_out(recorded, parts, tmp_path):
    from ray_jobs.engines.sim.replay import replay

    result, trace = recorded[1]["bidkv"]
    settings = AdapterSettings("lcf", events_path=str(tmp_path / "events.jsonl"), steps_path="memory")
    replayed = replay(parts, trace, result.events, recorded_steps(result), settings)
    assert replayed.difference is not None and replayed.difference.startswith("step ")
