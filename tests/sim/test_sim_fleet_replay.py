"""Two real engines behind a router, and the simulated fleet: the same choices, and the same decisions step by step."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from conftest import record_fleet
from sim_bench import compose_job, random_trace, recorded_steps, talk

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.base import Known
from ray_jobs.engines.routers.config import RouterConfig

pytestmark = [pytest.mark.engine, pytest.mark.long]
MAX_LEN = 512
LIMITS = [
    f"engine.max_model_len={MAX_LEN}", "engine.num_blocks=24", "engine.block_size=32", "engine.max_num_seqs=12",
    "engine.max_num_batched_tokens=256", "engine.prefix_caching=true",
]  # fmt: skip
RUNS = {"least-requests": "bidkv", "prefix-affinity": "lcf", "sticky": "backfill"}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """By router: (result, trace, choices)."""
    from ray_jobs.engines.sim.replay_fleet import Choice

    folder = tmp_path_factory.mktemp("recorded")
    open_loop = random_trace(1, 70, rate=120, prompt=(10, 90), output=(40, 120), shared=70)
    traces = {router: talk(16) if router == "sticky" else open_loop for router in RUNS}
    for router, trace in traces.items():
        trace.save(folder / f"{router}.parquet")
    runs = [
        {"id": router, "strategy": strategy, "router": router, "trace": str(folder / f"{router}.parquet")}
        for router, strategy in RUNS.items()
    ]
    results = record_fleet(folder, {"overrides": [*LIMITS, "run.log_schedule=true"], "runs": runs})
    found = {}
    for router, result in results.items():
        rows = json.loads((folder / router / "choices.json").read_text())
        choices = [Choice(**row | {"known": [Known(**known) for known in row["known"]]}) for row in rows]
        found[router] = (result, traces[router], choices)
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    from ray_jobs.engines.sim.build import build_parts

    job = compose_job(
        *LIMITS, "engine.sim.async_scheduling=false", "model_shape@engine.sim.model_shape=tiny-llama",
        "hardware@engine.sim.hardware=local-cpu",
    )  # fmt: skip
    return build_parts(job.engine, tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize("router", RUNS)
def test_the_same_replicas_the_same_steps_and_victims(recordings, parts, tmp_path, router):
    result, trace, choices = recordings[router]
    assert (result.requests["status"] == "ok").all()
    assert {choice.replica for choice in choices} == {0, 1} and len(choices) == len(trace.requests)
    done = replayed(parts, recordings[router], router, RUNS[router], tmp_path)
    assert done.difference is None
    steps = [int((result.steps["replica"] == number).sum()) for number in (0, 1)]
    assert [each.steps for each in done.replicas] == steps and min(steps) > 50
    assert sum(each.preemptions for each in done.replicas) >= 5


def test_another_choice_or_arrival_or_strategy_is_found_out(recordings, parts, tmp_path):
    result, trace, choices = recordings["least-requests"]
    other = [*choices]
    other[40] = replace(other[40], replica=1 - other[40].replica)
    done = replayed(parts, (result, trace, other), "least-requests", "bidkv", tmp_path / "choice")
    assert done.difference.startswith("choice 40: ")
    done = replayed(parts, (result, trace, choices[:-1]), "least-requests", "bidkv", tmp_path / "arrival")
    assert " arrived" in done.difference
    done = replayed(parts, recordings["least-requests"], "least-requests", "lcf", tmp_path / "strategy")
    assert done.difference.startswith("replica 0: step ")


def replayed(parts, recording, router, strategy, folder):
    from ray_jobs.engines.sim.replay_fleet import replay_fleet

    result, trace, choices = recording
    folder.mkdir(exist_ok=True)
    settings = AdapterSettings(strategy, events_path=str(folder / "events.jsonl"), steps_path="memory")
    return replay_fleet(
        parts, trace, result.events, recorded_steps(result), choices, RouterConfig(router), settings
    )
