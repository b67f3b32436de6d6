"""vLLM's real scheduler, sync and async, with our mixin; the model is a stand-in that checks KV content."""

from __future__ import annotations

import importlib
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import make_load

from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.events import JsonLines, read_events
from bidkv.adapters.vllm.memory.blocks import KVBlocks
from bidkv.adapters.vllm.server.configure import AdapterConfig, adapter_config
from bidkv.errors import BidValidationError, UnknownNameError

pytest.importorskip("vllm", reason="vLLM is not installed")
RequestStatus = importlib.import_module("vllm.v1.request").RequestStatus
bench = importlib.import_module("scheduler_bench")  # a vLLM that moved its modules must fail here


def run_load(
    model: Path, folder: Path, strategy: str, *, count: int = 30, shared_prefix: int = 0, **options: Any
) -> Any:
    """Runs a load to its end; returns the bench, its events and its steps."""
    settings = {
        "strategy": strategy,
        "run_id": "test",
        "events_path": str(folder / "events.jsonl"),
        "steps_path": str(folder / "steps.jsonl"),
        "log_schedule": True,
    }
    machine = bench.SchedulerBench(model, settings, **options)
    for index, request in enumerate(make_load(count, shared_prefix=shared_prefix)):
        machine.add(f"r{index}", request["prompt"], request["output"], max_tokens=request["declared"])
    machine.run()
    machine.scheduler.shutdown()
    return machine, read_events(folder / "events.jsonl"), read_events(folder / "steps.jsonl")


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


MODES = [
    pytest.param({"asynchronous": a, "prefix_caching": c}, id=f"{mode}-{cache}")
    for a, mode in ((False, "sync"), (True, "async"))
    for c, cache in ((False, "plain"), (True, "cache"))
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", ["preempt-evict", "bidkv", "lcf", "static-random"])
def test_accounts_are_exact(tiny_model: Path, tmp_path: Path, mode: dict[str, Any], strategy: str) -> None:
    machine, events, steps = run_load(tiny_model, tmp_path, strategy, shared_prefix=64, **mode)

    start, end = events[0], events[-1]
    assert (start["type"], end["type"]) == ("run_start", "run_end")
    assert start["scheduler"] == ("async" if mode["asynchronous"] else "sync")
    assert start["prefix_caching"] == mode["prefix_caching"]
    assert start["engine_tested"] is True
    assert not end["degraded"]

    preemptions, requests = of_type(events, "preempt"), of_type(events, "request")
    assert len(preemptions) == end["preemptions"] >= 10
    assert len(requests) == 30
    for record in requests:
        request = machine.requests[record["id"]]
        assert list(request.output_token_ids) == machine.expected_output(request)
        useful = record["prompt"] + record["output"] - 1
        assert record["executed"] == useful + record["recomputed"] - record["cached"]
        assert record["preemptions"] == sum(p["victim"] == record["id"] for p in preemptions)
        assert len(record["resume_delays"]) <= record["preemptions"]
        assert record["preempted_s"] == pytest.approx(sum(record["resume_delays"]))
        assert record["reason"] == "length"
    scheduled = sum(step["prefill_tokens"] + step["decode_tokens"] for step in steps)
    assert scheduled == sum(record["executed"] for record in requests)
    decoded = sum(step["decode_tokens"] for step in steps)
    assert decoded <= sum(record["output"] for record in requests)
    hits = sum(record["cached"] + record["cached_resume"] for record in requests)
    assert (hits > 0) == mode["prefix_caching"]
    if not mode["prefix_caching"]:
        lost = sum(p["tokens_freed"] for p in preemptions)
        in_flight = len(preemptions) if mode["asynchronous"] else 0
        assert lost - in_flight <= sum(record["recomputed"] for record in requests) <= lost


@pytest.mark.parametrize("mode", MODES)
def test_preempt_evict_takes_the_victims_of_stock_vllm(
    tiny_model: Path, tmp_path: Path, mode: dict[str, Any]
) -> None:
    """Also where no CPU engine gets to: under async scheduling."""
    machine, events, _ = run_load(tiny_model, tmp_path, "preempt-evict", **mode)

    stock = bench.SchedulerBench(tiny_model, {}, stock=True, **mode)
    assert type(stock.scheduler).__module__.startswith("vllm.")
    victims = []
    preempt = stock.scheduler._preempt_request

    def note(request: Any, *args: Any, **kwargs: Any) -> None:
        victims.append(request.request_id.partition("-")[0])
        preempt(request, *args, **kwargs)

    stock.scheduler._preempt_request = note
    for index, request in enumerate(make_load(30)):
        stock.add(f"r{index}", request["prompt"], request["output"])
    stock.run()
    assert [p["victim"] for p in of_type(events, "preempt")] == victims
    assert len(victims) >= 10


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nobody_else_loses_its_turn(tiny_model: Path, tmp_path: Path, asynchronous: bool) -> None:
    """In a step with a preemption, everyone who still runs and needs a token is scheduled."""
    _, events, steps = run_load(tiny_model, tmp_path, "largest-first", asynchronous=asynchronous)
    pressed = [step for step in steps if step["preempted"]]
    assert len(pressed) >= 10
    finishing = 0
    for step in pressed:
        # Async: a request whose last token is in flight still runs but needs no turn.
        finishing += step["running"] - len(step["scheduled"])
    assert finishing <= (30 if asynchronous else 0)
    assert all(event["stalled"] == [] for event in of_type(events, "preempt"))
    assert sum(step["preempted"] for step in steps) == len(of_type(events, "preempt"))


def test_events_say_what_happened(tiny_model: Path, tmp_path: Path) -> None:
    _, events, steps = run_load(tiny_model, tmp_path, "bidkv", prefix_caching=True, shared_prefix=64)
    preemptions = of_type(events, "preempt")
    shared = 0
    for event in preemptions:
        candidates = {c["id"]: c for c in event["candidates"]}
        victim = candidates[event["victim"]]
        assert event["source"] == "strategy"
        assert event["tokens_freed"] == victim["computed"]
        # Free in the pool afterwards is what nobody else held.
        assert event["blocks_freed"] == victim["private_blocks"]
        assert event["score"] == pytest.approx(
            victim["computed"]
            / (1 + 0.5 * min(1, victim["output"] / victim["max_tokens"]) + 0.3 * victim["preemptions"] + 1e-3)
        )
        assert event["utility"] == pytest.approx(event["score"])
        assert 0 < event["select_ns"] < event["hook_ns"]
        size = bench.BLOCK_SIZE
        shared += any((c["private_blocks"] + 1) * size < c["computed"] for c in event["candidates"])
    assert shared, "no candidate shared a block: this load proves nothing about private blocks"
    assert all(step["used_blocks"] + step["cached_free_blocks"] <= 23 for step in steps)
    assert any(step["cached_free_blocks"] for step in steps)
    assert any(step["hol_blocked"] for step in steps)
    added = [name for step in steps for name in step["added"]]
    assert sorted(added) == sorted(r["id"] for r in of_type(events, "request"))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_ledger_of_shared_blocks_agrees_with_counting_anew(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    """Prefixes that branch, and aborts: every count a policy is shown is what a walk over the blocks finds."""
    held_by, seen = KVBlocks.held_by, Counter()

    def checked(self: KVBlocks, names: list[str]) -> Any:
        totals, privates = held_by(self, names)
        assert list(zip(totals, privates, strict=True)) == [self._count(name) for name in names]
        seen["shared"] += sum(private < total for total, private in zip(totals, privates, strict=True))
        seen["private"] += sum(private == total for total, private in zip(totals, privates, strict=True))
        return totals, privates

    monkeypatch.setattr(KVBlocks, "held_by", checked)
    machine = bench.SchedulerBench(
        tiny_model, {"strategy": "cost-aware"}, blocks=40, prefix_caching=True, asynchronous=asynchronous
    )
    assert machine.scheduler._bidkv_blocks.shared is not None
    rng = random.Random(3)
    trunk = [rng.randrange(3, 2000) for _ in range(160)]
    for index in range(60):
        own = [rng.randrange(3, 2000) for _ in range(rng.randint(5, 60))]
        machine.add(f"r{index}", trunk[: rng.choice([0, 64, 96, 160])] + own, rng.randint(30, 120))
    for index in range(20):
        for _ in range(12):
            machine.step()
        machine.scheduler.finish_requests(
            machine.requests[f"r{3 * index}"].request_id, RequestStatus.FINISHED_ABORTED
        )
    machine.run()
    assert seen["shared"] > 100 and seen["private"] > 100
    ledger = machine.scheduler._bidkv_blocks.shared
    assert ledger.tracked == 0


def test_a_preemption_walks_no_blocks_and_writes_nothing_while_the_step_waits(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both took milliseconds at 256 running requests."""
    walked, written_inside, inside = [], [], [False]
    schedule, write = bench.create_scheduler, JsonLines.write

    def create(*args: Any, **kwargs: Any) -> Any:
        scheduler = schedule(*args, **kwargs)
        stock = scheduler.schedule

        def step() -> Any:
            inside[0] = True
            try:
                return stock()
            finally:
                inside[0] = False

        scheduler.schedule = step
        return scheduler

    def noted(self: JsonLines, record: Any) -> None:
        written_inside.extend([record["type"]] * inside[0])
        write(self, record)

    monkeypatch.setattr(bench, "create_scheduler", create)
    monkeypatch.setattr(JsonLines, "write", noted)
    monkeypatch.setattr(KVBlocks, "_count", lambda self, name: walked.append(name))
    settings = {"strategy": "cost-aware", "events_path": str(tmp_path / "events.jsonl")}
    machine = bench.SchedulerBench(tiny_model, settings, prefix_caching=True)
    for index, request in enumerate(make_load(30, shared_prefix=64)):
        machine.add(f"r{index}", request["prompt"], request["output"])
    machine.run()
    machine.scheduler.shutdown()
    assert len(of_type(read_events(tmp_path / "events.jsonl"), "preempt")) >= 10
    assert not walked and not written_inside


@pytest.mark.parametrize("guarded", [True, False])
def test_a_victim_that_had_its_turn_leaves_no_uncomputed_block_in_the_cache(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """vLLM publishes a block's hash before the block is computed (vLLM PR 43569).

    `long` prefills 64 tokens a step. In the third step three others need a second block and two are
    free, so `long` is evicted after its chunk was scheduled. It resumes when the others are done.
    """
    if not guarded:
        monkeypatch.setattr("bidkv.adapters.vllm.memory.blocks.KVBlocks.forget_uncomputed", lambda *_: 0)
    settings = {
        "strategy": "largest-first",
        "admission": "fcfs",
        "events_path": str(tmp_path / "events.jsonl"),
    }
    machine = bench.SchedulerBench(
        tiny_model, settings, blocks=21, prefix_caching=True, long_prefill_token_threshold=64
    )
    long = machine.add("long", list(range(3, 515)), 4)
    for index in range(12):
        machine.add(f"short{index}", [1000 + index] * (31 if index < 3 else 5), 5)
    if not guarded:
        with pytest.raises(bench.StaleKVError, match="long"):
            machine.run()
        return
    machine.run()
    events = read_events(tmp_path / "events.jsonl")
    assert [p["victim"] for p in of_type(events, "preempt")] == ["long"]
    (record,) = [r for r in of_type(events, "request") if r["id"] == "long"]
    assert record["cached_resume"] == 128  # what was computed, without the chunk that never ran
    assert list(long.output_token_ids) == machine.expected_output(long)


def test_sjf_admits_the_shortest_declared_first_and_the_preempted_before_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    machine, events, steps = run_load(tiny_model, tmp_path, "preempt-evict-sjf")
    first: dict[str, int] = {}
    for step in steps:
        for name in step["scheduled"]:
            first.setdefault(name, step["step"])
    declared = {
        name: request.num_prompt_tokens + request.sampling_params.extra_args["bidkv"]["max_tokens"]
        for name, request in machine.requests.items()
    }
    order = sorted(first, key=lambda name: (first[name], declared[name]))
    assert [declared[name] for name in order] == sorted(declared.values())

    waiting: list[str] = []  # preempted, the last one first
    victims: dict[int, list[str]] = {}
    for event in of_type(events, "preempt"):
        victims.setdefault(event["step"], []).append(event["victim"])
    for step in steps:
        for name in [n for n in step["scheduled"] if n in waiting]:
            assert name == waiting.pop(0)
        fresh = [n for n in step["scheduled"] if first[n] == step["step"]]
        assert not (fresh and waiting), "a new request passed a preempted one"
        for name in victims.get(step["step"], []):
            waiting.insert(0, name)


def test_kill_switch_and_new_settings_reach_a_running_scheduler(tiny_model: Path, tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    settings = {"strategy": "largest-first", "run_id": "one", "events_path": str(tmp_path / "one.jsonl")}
    write_control(control, settings)
    machine = bench.SchedulerBench(tiny_model, {"control_file": str(control), "trusted_control": True})
    for index, request in enumerate(make_load(30)):
        machine.add(f"r{index}", request["prompt"], request["output"])

    def preemptions(name: str) -> list[dict[str, Any]]:
        return of_type(read_events(tmp_path / f"{name}.jsonl"), "preempt")

    def step_until(name: str, count: int) -> None:
        while len(preemptions(name)) < count:
            machine.step()

    step_until("one", 5)
    write_control(control, {"kill_switch": True})
    step_until("one", 10)
    events = preemptions("one")
    assert [e["source"] for e in events] == ["strategy"] * 5 + ["kill_switch"] * 5
    assert all(e["victim"] == e["candidates"][-1]["id"] for e in events[5:])  # vLLM's own choice
    arrivals = [r.arrival_time for r in machine.scheduler.waiting if r.num_preemptions == 0]
    assert arrivals == sorted(arrivals)  # and its own order of admission
    write_control(control, {"kill_switch": False})
    step_until("one", 12)
    assert [e["source"] for e in preemptions("one")[10:]] == ["strategy"] * 2

    write_control(control, {"strategy": "no-such-strategy"})
    machine.step()
    assert "no-such-strategy" in of_type(read_events(tmp_path / "one.jsonl"), "control_error")[0]["error"]
    control.write_text("{not json")
    machine.step()
    assert len(of_type(read_events(tmp_path / "one.jsonl"), "control_error")) == 2

    second = {"strategy": "lcf", "run_id": "two", "events_path": str(tmp_path / "two.jsonl")}
    write_control(control, second)
    machine.run()
    machine.scheduler.shutdown()
    one, two = read_events(tmp_path / "one.jsonl"), read_events(tmp_path / "two.jsonl")
    assert one[-1]["type"] == two[-1]["type"] == "run_end"
    assert one[-1]["control_errors"] == 2
    assert (two[0]["victim"], two[0]["run_id"]) == ("lcf", "two")
    assert two[-1]["preemptions"] == len(of_type(two, "preempt")) > 0
    for request in machine.requests.values():
        assert list(request.output_token_ids) == machine.expected_output(request)


@pytest.mark.parametrize("strategy", ["raising", "stranger", "lost"])
def test_a_broken_strategy_never_stops_the_engine(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third_party: Path, strategy: str
) -> None:
    monkeypatch.syspath_prepend(str(third_party))
    importlib.invalidate_caches()
    machine, events, _ = run_load(tiny_model, tmp_path, strategy)
    for request in machine.requests.values():
        assert list(request.output_token_ids) == machine.expected_output(request)
    (error,) = of_type(events, "strategy_error")
    assert "Traceback" in error["traceback"]
    end = events[-1]
    assert end["degraded"] and end["strategy_errors"] >= 1
    preemptions = of_type(events, "preempt")
    if strategy != "lost":
        assert {p["source"] for p in preemptions} == {"engine"}
        assert end["strategy_errors"] == len(preemptions)
    (tmp_path / "stock").mkdir()
    _, stock, _ = run_load(tiny_model, tmp_path / "stock", "preempt-evict")
    assert [p["victim"] for p in preemptions] == [p["victim"] for p in of_type(stock, "preempt")]


def test_a_failed_admission_ends_with_its_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third_party: Path
) -> None:
    """The next run on the same engine orders its queue again and is not degraded."""
    monkeypatch.syspath_prepend(str(third_party))
    importlib.invalidate_caches()
    control = tmp_path / "control.json"
    write_control(control, {"strategy": "lost", "events_path": str(tmp_path / "one.jsonl")})
    machine = bench.SchedulerBench(tiny_model, {"control_file": str(control), "trusted_control": True})
    machine.add("first", [5] * 40, 5)
    machine.run()
    write_control(
        control,
        {"strategy": "preempt-evict-sjf", "run_id": "two", "events_path": str(tmp_path / "two.jsonl")},
    )
    for name, tokens in (("long", 90), ("middle", 60), ("short", 30)):
        machine.add(name, [5] * tokens, 5)
    assert [r.num_prompt_tokens for r in machine.scheduler.waiting] == [30, 60, 90]
    machine.run()
    machine.scheduler.shutdown()
    ends = [read_events(tmp_path / name)[-1] for name in ("one.jsonl", "two.jsonl")]
    assert [end["degraded"] for end in ends] == [True, False]


def test_a_victim_that_was_not_marked_is_the_engines_and_degrades_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a vLLM no longer took the request with the largest priority."""

    def lost_mark(self: Any, victim: Any) -> None:
        self._marked = (victim, victim.priority)

    monkeypatch.setattr("bidkv.adapters.vllm.choices.mark.Mark.set", lost_mark)
    _, events, _ = run_load(tiny_model, tmp_path, "largest-first")
    preemptions = of_type(events, "preempt")
    assert all(p["victim"] == p["candidates"][-1]["id"] for p in preemptions if p["source"] == "engine")
    others = sum(p["source"] == "engine" for p in preemptions)
    assert {p["source"] for p in preemptions} <= {"engine", "strategy"} and others >= 5
    (error,) = of_type(events, "strategy_error")
    assert "vLLM preempted" in error["error"] and "marked was" in error["error"]
    assert events[-1]["degraded"] and events[-1]["strategy_errors"] == others


def test_only_an_oracle_sees_the_true_length(tiny_model: Path, tmp_path: Path) -> None:
    seen = {}
    for strategy in ("bidkv", "srpt_oracle"):
        machine = bench.SchedulerBench(tiny_model, {"strategy": strategy})
        request = machine.add("r0", [5] * 40, 50, max_tokens=90, deadline=7.0, arrival=3.0, nonsense="x")
        machine.step()
        seen[strategy] = machine.scheduler._bidkv_account(request).state
        assert (seen[strategy].max_tokens, seen[strategy].deadline, seen[strategy].arrival) == (90, 7.0, 3.0)
    assert seen["bidkv"].true_output_tokens is None
    assert seen["srpt_oracle"].true_output_tokens == 50


def test_nothing_is_written_without_a_path(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    machine = bench.SchedulerBench(tiny_model, {"strategy": "bidkv"})
    for index, request in enumerate(make_load(20)):
        machine.add(f"r{index}", request["prompt"], request["output"])
    machine.run()
    machine.scheduler.shutdown()
    assert machine.scheduler._bidkv_session.log.counters["preemptions"] > 0
    assert not machine.scheduler._bidkv_accounts
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"strategy": "nope"}, UnknownNameError, "nope"),
        ({"stratgy": "bidkv"}, BidValidationError, "unknown key 'stratgy'; allowed: strategy,"),
        ({"control_file": "/nowhere/control.json"}, BidValidationError, "/nowhere/control.json"),
        ({"strategy": "bidkv", "params": {"speed": 1}}, BidValidationError, "speed"),
    ],
)
def test_bad_settings_fail_before_the_engine_starts(
    tiny_model: Path, settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        bench.SchedulerBench(tiny_model, settings)


def test_settings_are_no_part_of_the_key_of_vllms_compile_cache(tmp_path: Path) -> None:
    from vllm.config import VllmConfig

    paths = [str(tmp_path / name) for name in "ab"]
    sections = [{"strategy": "bidkv", "control_file": path} for path in paths]
    hashes = [VllmConfig(additional_config=AdapterConfig(s)).compute_hash() for s in sections]
    assert hashes[0] == hashes[1]
    plain = [VllmConfig(additional_config={"bidkv": s}).compute_hash() for s in sections]
    assert plain[0] != plain[1], "vLLM no longer hashes a plain dict: AdapterConfig can go"
    settings, control = adapter_config(AdapterConfig(sections[1]))
    assert (settings.strategy, control.path) == ("bidkv", paths[1])


def test_records_are_json_objects_one_a_line(tiny_model: Path, tmp_path: Path) -> None:
    run_load(tiny_model, tmp_path, "bidkv", count=8)
    for name in ("events.jsonl", "steps.jsonl"):
        for line in (tmp_path / name).read_text().splitlines():
            assert isinstance(json.loads(line), dict)
