"""Real vLLM engines on CPU: every strategy's outputs, victims and accounts on one load.

All engines run one after the other in one process of their own (see offline_engine.py), once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_load

from bidkv.adapters.shared.events import read_events
from bidkv.registry import create_default_registry

pytestmark = [pytest.mark.engine, pytest.mark.long]

REGISTRY = create_default_registry()
STRATEGIES = REGISTRY.list_strategies()
CACHING = [pytest.param(False, id="plain"), pytest.param(True, id="cache")]
EACH = [
    pytest.param(name, caching, id=f"{name}-{'cache' if caching else 'plain'}")
    for name in STRATEGIES
    for caching in (False, True)
    if caching or not REGISTRY.get(name).needs_cache
]
LOAD = make_load(20, shared_prefix=32, longest=120)
FORECASTS = {"peak-gate"}  # holds back so much that hardly anybody is preempted


@pytest.fixture(scope="module")
def engines(
    tiny_model: Path, third_party: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, bool], dict[str, Any]]:
    """Results by ("stock" | "adapter", prefix caching); adapter runs also have `events` and `steps`."""
    folder = tmp_path_factory.mktemp("engines")
    arguments = {
        "model": str(tiny_model),
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_memory_bytes": 64 << 20,
        "max_model_len": 384,
        "block_size": 32,
        "num_gpu_blocks_override": 17,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 512,
        "seed": 0,
        "skip_tokenizer_init": True,
    }
    plan, keys = [], []
    for caching in (False, True):
        stock_runs = [{"name": "stock", "requests": LOAD}]
        if not caching:
            stock_runs.append({"name": "alone", "requests": LOAD, "alone": True})
        adapter_runs = [
            {
                "name": name,
                "requests": LOAD,
                "settings": {
                    "strategy": name,
                    "run_id": name,
                    "events_path": str(folder / f"{name}-{caching}.events.jsonl"),
                    "steps_path": str(folder / f"{name}-{caching}.steps.jsonl"),
                },
            }
            for name in [*STRATEGIES, *([] if caching else ["raising"])]
            if caching or name == "raising" or not REGISTRY.get(name).needs_cache
        ]
        for kind, runs in (("stock", stock_runs), ("adapter", adapter_runs)):
            engine = {**arguments, "enable_prefix_caching": caching}
            plan.append({"engine": engine, "adapter": kind == "adapter", "runs": runs})
            keys.append((kind, caching))
    (folder / "plan.json").write_text(json.dumps(plan))
    environment = {k: v for k, v in os.environ.items() if k != "BIDKV_STRATEGY"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(third_party)])
    script = Path(__file__).with_name("offline_engine.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "plan.json"), str(folder / "result.json")],
        env=environment,
        cwd=folder,
        timeout=600,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = dict(zip(keys, json.loads((folder / "result.json").read_text()), strict=True))
    for (kind, caching), result in results.items():
        if kind == "adapter":
            for name, run in result["runs"].items():
                run["events"] = read_events(folder / f"{name}-{caching}.events.jsonl")
                run["steps"] = read_events(folder / f"{name}-{caching}.steps.jsonl")
    return results


def of_type(run: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in run["events"] if event["type"] == kind]


def test_without_the_variable_the_plugin_leaves_vllm_alone(engines: dict[Any, Any]) -> None:
    assert engines["stock", False]["scheduler"] == "Scheduler"
    assert engines["adapter", False]["scheduler"] == "BidKVScheduler"


def test_the_load_makes_outputs_worth_comparing(engines: dict[Any, Any]) -> None:
    outputs = engines["stock", False]["runs"]["alone"]["outputs"]
    assert [len(o) for o in outputs] == [r["output"] for r in LOAD]
    assert all(len(set(o)) > 20 for o in outputs), "an output repeats a few tokens"
    assert len({tuple(o[:20]) for o in outputs}) == len(outputs)


@pytest.mark.parametrize("caching", CACHING)
def test_preempt_evict_decides_as_unmodified_vllm(engines: dict[Any, Any], caching: bool) -> None:
    stock = engines["stock", caching]["runs"]["stock"]
    ours = engines["adapter", caching]["runs"]["preempt-evict"]
    assert len(stock["victims"]) >= 10
    assert ours["victims"] == stock["victims"]
    assert ours["outputs"] == stock["outputs"]


@pytest.mark.parametrize(("strategy", "caching"), EACH)
def test_greedy_outputs_do_not_depend_on_pressure(
    engines: dict[Any, Any], strategy: str, caching: bool
) -> None:
    run = engines["adapter", caching]["runs"][strategy]
    assert len(run["victims"]) >= (0 if strategy in FORECASTS else 10)
    alone = engines["stock", False]["runs"]["alone"]["outputs"]
    different = [i for i, (a, b) in enumerate(zip(run["outputs"], alone, strict=True)) if a != b]
    assert not different


@pytest.mark.parametrize(("strategy", "caching"), EACH)
def test_recompute_accounts_are_exact(engines: dict[Any, Any], strategy: str, caching: bool) -> None:
    run = engines["adapter", caching]["runs"][strategy]
    requests, preemptions = of_type(run, "request"), of_type(run, "preempt")
    assert [run["ids"].index(p["victim"]) for p in preemptions] == run["victims"]
    assert sorted(r["id"] for r in requests) == sorted(run["ids"])
    for record in requests:
        made = LOAD[run["ids"].index(record["id"])]
        assert (record["prompt"], record["output"]) == (len(made["prompt"]), made["output"])
        assert record["max_tokens"] == made["declared"]
        useful = record["prompt"] + record["output"] - 1
        assert record["executed"] == useful + record["recomputed"] - record["cached"]
        assert record["preemptions"] == sum(p["victim"] == record["id"] for p in preemptions)
    executed = sum(r["executed"] for r in requests)
    assert executed == sum(s["prefill_tokens"] + s["decode_tokens"] for s in run["steps"])
    recomputed = sum(r["recomputed"] for r in requests)
    lost = sum(p["tokens_freed"] for p in preemptions)
    hits = sum(r["cached_resume"] for r in requests)
    if strategy in FORECASTS:
        assert recomputed + hits >= lost
    elif caching:
        assert hits > 0 and recomputed + hits >= lost
    else:
        assert recomputed == lost > 0


@pytest.mark.parametrize("caching", CACHING)
def test_strategies_choose_different_victims(engines: dict[Any, Any], caching: bool) -> None:
    runs = engines["adapter", caching]["runs"]
    names = ("preempt-evict", "largest-first", "bidkv", "lcf")
    chosen = {name: tuple(runs[name]["victims"]) for name in names}
    assert len(set(chosen.values())) == len(chosen)


def test_steps_last_as_long_as_the_run(engines: dict[Any, Any]) -> None:
    run = engines["adapter", False]["runs"]["bidkv"]
    steps = run["steps"]
    assert [s["step"] for s in steps] == list(range(len(steps)))
    assert all(0 < s["schedule_us"] / 1e6 < s["dur"] for s in steps)
    span = steps[-1]["t"] + steps[-1]["dur"] - steps[0]["t"]
    assert 0.5 * span < sum(s["dur"] for s in steps) <= span * 1.001
    assert sum(s["preempted"] for s in steps) == len(of_type(run, "preempt"))


def test_a_broken_strategy_is_never_silent(engines: dict[Any, Any]) -> None:
    run = engines["adapter", False]["runs"]["raising"]
    stock = engines["stock", False]["runs"]["stock"]
    assert run["victims"] == stock["victims"] and run["outputs"] == stock["outputs"]
    (error,) = of_type(run, "strategy_error")
    assert "ZeroDivisionError" in error["traceback"]
    (end,) = of_type(run, "run_end")
    assert end["degraded"] and end["strategy_errors"] == len(run["victims"])
    assert {p["source"] for p in of_type(run, "preempt")} == {"engine"}
