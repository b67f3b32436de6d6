"""The real SGLang engine on a CPU, end to end: one engine serves every test of this file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings

pytestmark = pytest.mark.engine

POOL, SEATS, VOCABULARY = 768, 16, 512


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A backend with a pool far too small for its seats, and the loop it runs on."""
    from hooks import Hooks

    from bidkv.adapters.sglang.configure import CONTROL_VARIABLE, TRUST_VARIABLE
    from ray_jobs.engines.config import EngineConfig
    from ray_jobs.engines.sglang import Backend

    config = EngineConfig(
        kind="sglang",
        model="tiny-llama",
        vocab_size=VOCABULARY,
        dtype="float32",
        block_size=1,
        num_blocks=POOL,
        max_num_seqs=SEATS,
        max_model_len=512,
        max_num_batched_tokens=256,
        gpu_memory_utilization=0.9,  # only an upper bound: num_blocks says what is reserved
        extra={"device": "cpu", "attention_backend": "torch_native"},
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION", "8")
    for variable in (CONTROL_VARIABLE, TRUST_VARIABLE):  # the backend sets them
        patch.setenv(variable, "")
    hooks = Hooks()
    hooks.remember()
    backend = Backend(config, tmp_path_factory.mktemp("engine"))
    with asyncio.Runner() as runner:
        environment = runner.run(backend.start())
        hooks.remove()  # the engine's are in another process
        try:
            yield SimpleNamespace(backend=backend, runner=runner, environment=environment)
        finally:
            runner.run(backend.stop())
            patch.undo()


def load(count: int = 12, seed: int = 5) -> list[Any]:
    """Half of the requests share a prefix of 64 tokens."""
    from ray_jobs.workload.trace import TraceRequest

    random = Random(seed)
    shared = [random.randrange(3, VOCABULARY) for _ in range(64)]
    requests = []
    for i in range(count):
        own = [random.randrange(3, VOCABULARY) for _ in range(8 if i % 2 else 40)]
        prompt = np.array(shared + own if i % 2 else own, dtype=np.int32)
        length = random.randint(60, 100)
        requests.append(TraceRequest(f"q{i}", 0.0, prompt, length, length + 40))
    return requests


async def outputs(
    backend: Any, requests: list[Any], together: bool = True, hurry: Any = None
) -> dict[str, list[int]]:
    """Output tokens by request id. `hurry` runs once the first request has 20 tokens."""

    async def one(request: Any) -> tuple[str, list[int]]:
        facts = {"max_tokens": request.max_tokens, "true_output_tokens": request.output_tokens}
        params = {"temperature": 0.0, "max_new_tokens": request.max_tokens, "custom_params": {"bidkv": facts}}
        stream = await backend.engine.async_generate(
            input_ids=request.prompt_token_ids.tolist(),
            sampling_params=params,
            rid=request.request_id,
            stream=True,
        )
        tokens: list[int] = []
        async for chunk in stream:
            new = chunk["output_ids"]
            count = chunk["meta_info"]["completion_tokens"]
            tokens = list(new) if len(new) == count else [*tokens, *new]  # cumulative or incremental
            if hurry is not None and len(tokens) == 20:
                hurry()
        return request.request_id, tokens

    if together:
        return dict(await asyncio.gather(*map(one, requests)))
    return dict([await one(request) for request in requests])


def run(
    lab: SimpleNamespace, name: str, requests: list[Any], hurry: Any = None, **settings: Any
) -> SimpleNamespace:
    """Outputs, events and steps of a load under one set of settings."""
    backend = lab.backend
    paths = {key: str(backend.folder / f"{name}.{key}") for key in ("events_path", "steps_path")}
    chosen = AdapterSettings(run_id=name, client_facts=True, **paths, **settings)

    async def go() -> dict[str, list[int]]:
        await backend.empty_cache()
        write_control(backend.control, chosen)
        await backend._installed(chosen)
        tokens = await outputs(backend, requests, hurry=hurry)
        await backend.settle()
        await backend._idle(f"after-{name}")
        return tokens

    tokens = lab.runner.run(go())
    events = read_events(paths["events_path"])
    return SimpleNamespace(
        outputs=tokens,
        events=events,
        steps=read_events(paths["steps_path"]),
        preempts=[e for e in events if e["type"] == "preempt"],
        requests=[e for e in events if e["type"] == "request"],
    )


@pytest.fixture(scope="module")
def calm(lab: SimpleNamespace) -> dict[str, list[int]]:
    """What every request says when it has the engine to itself."""
    return lab.runner.run(outputs(lab.backend, load(), together=False))


def test_the_model_says_more_than_one_token(calm: dict[str, list[int]]) -> None:
    assert {rid: len(tokens) for rid, tokens in calm.items()} == {
        r.request_id: r.output_tokens for r in load()
    }
    assert min(len(set(tokens)) for tokens in calm.values()) > 5


def test_bidkv_retracts_the_highest_private_utility(lab: SimpleNamespace, calm: dict[str, list[int]]) -> None:
    result = run(lab, "radix", load(), strategy="bidkv_radix")
    assert result.outputs == calm
    assert result.preempts and {e["source"] for e in result.preempts} == {"strategy"}
    for event in result.preempts:
        scores = {}
        for c in event["candidates"]:
            private = c["private_blocks"]
            delta = (
                max(0.5, private / 256) + 0.5 * min(1, c["output"] / c["max_tokens"]) + 0.3 * c["preemptions"]
            )
            scores[c["id"]] = private / (delta + 1e-3)
        assert scores[event["victim"]] == pytest.approx(max(scores.values()))
        assert event["blocks_freed"] == event["private_tokens"]
    sharing = [c for e in result.preempts for c in e["candidates"] if c["private_blocks"] < c["computed"]]
    assert sharing and all(c["computed"] - c["private_blocks"] == 64 for c in sharing)


def test_sglang_default_retracts_whom_sglang_would(lab: SimpleNamespace, calm: dict[str, list[int]]) -> None:
    result = run(lab, "default", load(), strategy="sglang_default")
    assert result.outputs == calm and result.preempts
    for event in result.preempts:
        order = sorted(event["candidates"], key=lambda c: (c["output"], -c["prompt"]), reverse=True)
        assert event["victim"] == order[-1]["id"]


def test_accounts_add_up_over_requests_and_steps(lab: SimpleNamespace) -> None:
    result = run(lab, "accounts", load(), strategy="largest-first", log_schedule=True)
    assert len(result.requests) == 12
    for e in result.requests:
        assert e["executed"] == e["prompt"] + e["output"] - 1 + e["recomputed"] - e["cached"]
        assert e["reason"] == "length"
    executed = sum(e["executed"] + e["overrun"] for e in result.requests)
    steps = result.steps
    assert executed == sum(s["prefill_tokens"] + s["decode_tokens"] for s in steps)
    assert executed == sum(sum(s["scheduled"].values()) for s in steps)
    assert (
        sum(s["preempted"] for s in steps)
        == len(result.preempts)
        == sum(e["preemptions"] for e in result.requests)
    )
    assert [s["step"] for s in steps] == list(range(len(steps)))
    assert all(0 < s["used_blocks"] <= POOL and s["dur"] > 0 and s["running"] <= SEATS for s in steps)
    assert result.events[-1]["steps"] == len(steps) and not result.events[-1]["degraded"]


def test_the_kill_switch_wins_in_a_running_engine(lab: SimpleNamespace, calm: dict[str, list[int]]) -> None:
    thrown = []

    def kill() -> None:
        if not thrown:
            thrown.append(True)
            write_control(lab.backend.control, {"kill_switch": True})

    result = run(lab, "kill", load(), hurry=kill, strategy="bidkv_radix")
    assert result.outputs == calm
    types = [e["type"] for e in result.events]
    after = [e["source"] for e in result.events[types.index("kill_switch") :] if e["type"] == "preempt"]
    assert after and set(after) == {"kill_switch"}


def test_a_request_the_client_gives_up_leaves_nothing_behind(lab: SimpleNamespace) -> None:
    from ray_jobs.engines.job import RunConfig, StrategyConfig
    from ray_jobs.workload.trace import Trace, TraceRequest

    requests = load()
    endless = TraceRequest("endless", 0.0, requests[0].prompt_token_ids, 400, 440)
    trace = Trace(name="t", seed=0, requests=(*requests, endless))
    strategy = StrategyConfig(name="slack_aware", admission="fcfs", victim="slack_aware")
    workload = SimpleNamespace(sessions=SimpleNamespace(answers="recorded"))
    limits = RunConfig(request_timeout_s=30, timeout_s=60)
    job = SimpleNamespace(strategy=strategy, workload=workload, seed=0, run=limits)
    original = lab.backend.generate

    async def generate(request: Any) -> Any:
        async for tokens in original(request):
            yield tokens
            if request.request_id == "endless" and tokens > 5:
                raise ValueError("the client went away")

    lab.backend.generate = generate
    try:
        result = lab.runner.run(lab.backend.run(trace, job, "run-1"))
    finally:
        del lab.backend.generate
    table = result.requests.set_index("request_id")
    assert result.status == "finished" and not result.degraded
    assert list(table.loc[[r.request_id for r in requests], "status"].unique()) == ["ok"]
    assert table.loc["endless", "status"] == "error"
    reasons = {e["id"]: e["reason"] for e in result.events if e["type"] == "request"}
    assert reasons["endless"] == "abort" and len(reasons) == 13
    assert result.events[0]["victim"] == "slack_aware" and result.events[-1]["type"] == "run_end"
    overrun = sum(e["overrun"] for e in result.events if e["type"] == "request")
    assert (
        table["executed_tokens"].sum() + overrun
        == result.steps[["prefill_tokens", "decode_tokens"]].to_numpy().sum()
    )
    lab.runner.run(lab.backend.empty_cache())  # refused while anything is still held


def test_the_environment_is_reported(lab: SimpleNamespace) -> None:
    assert lab.environment["engine"] == "sglang" and lab.environment["device"] == "cpu"
    assert lab.environment["scheduler"] == "async"
    json.dumps(lab.environment)


def test_an_engine_without_the_plugin_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: SimpleNamespace
) -> None:
    from ray_jobs.engines import sglang as module

    monkeypatch.setattr(module, "SETTLE_S", 0.1)
    settings = AdapterSettings(strategy="lcf", events_path=str(tmp_path / "never.jsonl"))
    with pytest.raises(RuntimeError, match="'lcf' was not installed"):
        lab.runner.run(lab.backend._installed(settings))
