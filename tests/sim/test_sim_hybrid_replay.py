"""A tiny hybrid and a tiny mixture of experts on the real CPU engine: the simulator has their blocks and their decisions."""

from __future__ import annotations

import pytest
from conftest import record_engines
from hybrid_models import TINY, engine_of, write_model
from sim_bench import random_trace

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.sim.build import build_parts, engine_config
from ray_jobs.engines.sim.kv_layout import ask_model, lay_out
from ray_jobs.engines.sim.replay import replay

pytestmark = [pytest.mark.engine, pytest.mark.long]
MAX_LEN, BLOCK, SEQS = 512, 32, 12
MEMORY = {"windows": 1_800_000, "mixture": 850_000}  # bytes; little enough for preemptions
LIMITS = [
    f"engine.max_model_len={MAX_LEN}", f"engine.block_size={BLOCK}", f"engine.max_num_seqs={SEQS}",
    "engine.max_num_batched_tokens=256", "engine.prefix_caching=true", "engine.num_blocks=null",
]  # fmt: skip
RUNS = [("windows", "preempt-evict"), ("windows", "backfill"), ("mixture", "preempt-evict")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: write_model(tmp_path_factory.mktemp(kind), TINY[kind]) for kind in MEMORY}


@pytest.fixture(scope="module")
def recorded(folders, tmp_path_factory):
    """Results and traces of runs by kind of model and strategy, an engine for each kind."""
    out = tmp_path_factory.mktemp("recorded")
    traces, engines = {}, []
    for kind, folder in folders.items():
        runs = []
        for number, (_, strategy) in enumerate(run for run in RUNS if run[0] == kind):
            trace = random_trace(number, 34, rate=60, prompt=(10, 90), output=(40, 120), shared=70)
            path = out / f"{kind}-{strategy}.parquet"
            trace.save(path)
            runs.append({"id": f"{kind}-{strategy}", "strategy": strategy, "trace": str(path)})
            traces[kind, strategy] = trace
        overrides = [
            *LIMITS, "engine.model=from-shape", "engine.load_format=dummy", "run.log_schedule=true",
            "+model_shape@engine.sim.model_shape=from_config", "+hardware@engine.sim.hardware=local-cpu",
            f"engine.sim.model_shape.path={folder}", f"engine.extra.kv_cache_memory_bytes={MEMORY[kind]}",
        ]  # fmt: skip
        engines.append({"overrides": overrides, "runs": runs})
    return record_engines(out, engines), traces


def blocks_of(result) -> int:
    """The real engine's, with the null block."""
    return next(e for e in result.events if e["type"] == "run_start")["num_blocks"] + 1


@pytest.mark.parametrize("kind", MEMORY)
def test_blocks_are_those_that_the_real_engine_has(folders, recorded, tmp_path, kind):
    config = engine_config(engine_of(folders[kind], *LIMITS), tmp_path)
    layout = lay_out(config, ask_model(config, tmp_path).specs, MEMORY[kind])
    assert layout.kv_cache_config.num_blocks == blocks_of(recorded[0][f"{kind}-preempt-evict"]) > 20


@pytest.mark.parametrize(("kind", "strategy"), RUNS)
def test_same_decisions_and_same_victims(folders, recorded, tmp_path, kind, strategy):
    results, traces = recorded
    result = results[f"{kind}-{strategy}"]
    assert result.status == "finished" and (result.requests["status"] == "ok").all()
    engine = engine_of(
        folders[kind], *LIMITS, f"engine.num_blocks={blocks_of(result)}", "engine.sim.async_scheduling=false",
        "hardware@engine.sim.hardware=local-cpu",
    )  # fmt: skip
    settings = AdapterSettings(strategy, events_path=str(tmp_path / "events.jsonl"), steps_path="memory")
    steps = result.steps.to_dict("records")
    for step in steps:
        step["scheduled"] = {i: int(n) for i, n in step["scheduled"].items() if n is not None and n == n}
    parts = build_parts(engine, tmp_path)
    replayed = replay(parts, traces[kind, strategy], result.events, steps, settings)
    assert replayed.difference is None
    assert replayed.steps == len(steps) > 100 and replayed.preemptions >= 5
