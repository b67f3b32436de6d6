"""What a server brings to vLLM's scheduler beside plain requests: with a strategy it goes as it goes without one."""

from __future__ import annotations

import functools
import gc
import json
import math
import os
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from server_bench import ServerBench
from vllm.lora.request import LoRARequest
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.layout import UnknownLayoutError
from bidkv.adapters.vllm.scheduler import BidKVSchedulerMixin
from bidkv.adapters.vllm.server.layout import check_followed
from bidkv.admission.backfill import Backfill
from bidkv.registry import create_default_registry
from ray_jobs.engines.shared.tiny_model import make_tiny_llama


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("server"), max_len=32768)


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of its own, which each look at it moves by 5 ms: seconds pass however fast the machine steps."""
    now = iter(range(10**9))
    monkeypatch.setattr(BidKVSchedulerMixin, "_bidkv_clock", staticmethod(lambda: next(now) * 0.005))


def descents(names: list[str]) -> int:
    numbers = [int(name) for name in names if name.isdigit()]
    return sum(a > b for a, b in zip(numbers, numbers[1:], strict=False))


@pytest.mark.parametrize("turns", [["off", "on"], ["lcf", "backfill"], ["off", "on", "off", "on"]])
def test_a_switch_in_mid_run_keeps_the_order_of_joining(
    model: Path, tmp_path: Path, turns: list[str]
) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    control = folder / "control.json"
    bench = ServerBench(model, "backfill", seats=4, budget=512, settings={"control_file": str(control)})
    for number in range(120):
        bench.add(str(number), 64, 20)
    for turn in turns:
        for _ in range(3):
            bench.step()
        known = {"off": {"kill_switch": True}, "on": {"kill_switch": False}}
        write_control(control, known.get(turn, {"strategy": turn}))
    bench.run()
    assert bench.scheduler._bidkv_session.log.counters["control_errors"] == 0
    assert descents(bench.started) == 0
    assert len(bench.started) == 120


def test_requests_whose_grammars_compile_are_served_as_they_came(model: Path) -> None:
    bench = ServerBench(model, "backfill", seats=4, budget=512)
    grammar = SimpleNamespace(grammar=None, reasoning_end_token_index=None)
    for number in range(60):
        request = bench.request(str(number), 64, 10)
        request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
        request.structured_output_request = grammar
        bench.scheduler.add_request(request)
    for _ in range(5):
        bench.step()
    assert bench.started == []
    grammar.grammar = Mock(spec=StructuredOutputGrammar)
    grammar.grammar.is_terminated.return_value = False
    bench.run()
    assert descents(bench.started) == 0 and len(bench.started) == 60


def lora(number: int) -> LoRARequest:
    return LoRARequest(f"l{number}", number, f"adapter-{number}")


def starts_of_a_large_one(model: Path, strategy: str | None) -> tuple[int, int]:
    """Steps until one of 88 blocks, whose adapter has no slot at first, starts; how many that came later started."""
    bench = ServerBench(model, strategy, enable_lora=True, max_loras=1)
    bench.add("m0", 640, 60)
    bench.add("a0", 16, 4, lora_request=lora(1))
    bench.step()
    bench.add("large", 1400, 1, lora_request=lora(2))
    for step in range(1, 1500):
        if step % 20 == 0:
            bench.add(f"m{step}", 320, 50)
        if step % 10 == 5:
            bench.add(f"a{step}", 16, 4, lora_request=lora(1))
        bench.step()
        if "large" in bench.started:
            return step, len(set(bench.started) - {"m0", "a0", "large"})
    raise AssertionError("never")


@pytest.mark.usefixtures("slow_steps")
def test_the_bound_of_overtaking_holds_though_vllm_skips(model: Path) -> None:
    stock, _ = starts_of_a_large_one(model, None)
    step, overtaken = starts_of_a_large_one(model, "backfill")
    assert overtaken <= 40
    assert step <= 4 * stock  # it never started before; the grace is a second, 70 of these steps


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.parametrize("caching", [False, True])
def test_several_kv_cache_groups_need_what_vllm_says(model: Path, caching: bool) -> None:
    """In the mean over loads: who is packed beside whom makes 15 % of the steps of one, either way."""

    def steps(strategy: str | None, seed: int) -> int:
        rng = random.Random(seed)
        bench = ServerBench(model, strategy, blocks=3001, sliding_groups=5, enable_prefix_caching=caching)
        for number in range(60):
            bench.add(str(number), 8000 if rng.random() < 1 / 6 else rng.randint(200, 600), 120)
        return bench.run()

    seeds = range(6)
    assert sum(steps("backfill", seed) for seed in seeds) <= 1.02 * sum(steps(None, seed) for seed in seeds)


def test_what_is_asked_for_a_waiting_request_is_vllms_own_answer(model: Path) -> None:
    bench = ServerBench(model, "backfill", blocks=3001, sliding_groups=5)
    request = bench.add("one", 8000, 5)
    manager = bench.scheduler.kv_cache_manager
    vllms = manager.coordinator.get_num_blocks_to_allocate(
        request_id="one", num_tokens=8000, new_computed_blocks=manager.empty_kv_cache_blocks.blocks,
        num_encoder_tokens=0, total_computed_tokens=0, num_local_computed_tokens=0, num_tokens_main_model=8000,
        apply_admission_cap=True,
    )  # fmt: skip
    assert bench.scheduler._bidkv_demand.most(request) == vllms < 3000


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_rejected_drafts_are_no_prompts_and_nothing_computed_again(
    model: Path, tmp_path: Path, asynchronous: bool
) -> None:
    events = tmp_path / "events.jsonl"
    bench = ServerBench(
        model,
        "backfill",
        settings={"events_path": str(events)},
        asynchronous=asynchronous,
        accepts=lambda request, drafts: request.num_output_tokens % (drafts + 1),
        speculative_config={"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2},
    )
    if not bench.scheduler.num_spec_tokens:
        pytest.skip("this vLLM takes no drafts here")
    bench.add("long", 600, 400)
    bench.add("head", 1300, 2)
    for step in range(150):
        if step % 3 == 0:
            bench.add(f"p{step}", 30, 4)
        for request in bench.scheduler.running:
            if not asynchronous and not request.is_prefill_chunk:
                request.spec_token_ids = [5, 5, 5]
        bench.step()
    assert sum(name[0] == "p" for name in bench.started) >= 4  # one may pass every 32 steps without a prompt
    bench.scheduler.shutdown()
    records = [json.loads(line) for line in events.read_text().splitlines()]
    assert sum(record["recomputed"] for record in records if record["type"] == "request") == 0


def test_an_important_request_goes_before_an_unimportant_one_that_was_preempted(model: Path) -> None:
    def order(strategy: str | None) -> int:
        """Steps from the preemption of the unimportant one until the important one starts."""
        more: dict[str, Any] = {} if strategy else {"scheduling_policy": "priority"}
        bench = ServerBench(model, strategy, blocks=41, seats=8, budget=512, **more)
        bench.add("first", 300, 200)
        low = bench.add("low", 250, 100, priority=5)
        for _ in range(300):
            bench.step()
            if low.num_preemptions:
                break
        else:
            raise AssertionError("nobody was preempted")
        bench.add("high", 250, 20)
        for step in range(300):
            bench.step()
            if "high" in bench.started:
                return step
        raise AssertionError("never")

    assert order("priority") == order(None)


@functools.cache
def stalled(model: Path, name: str | None, blocks: int, seats: int, seed: int) -> float:
    """The share of a load's steps in which one that runs stands still."""
    bench = ServerBench(model, name, blocks=blocks, seats=seats, budget=512, asynchronous=True)
    bench.scheduler.defer_block_free = True
    rng, few = random.Random(seed), seats == 8
    for number in range(5 * seats if few else 120):
        prompt = rng.choice([20, 110, 110] if few else [64, 200, 600])
        bench.add(str(number), prompt, 60 if few else int(rng.lognormvariate(5.3, 0.7)) + 2)
    stood = steps = 0
    while bench.scheduler.has_unfinished_requests():
        output = bench.step()
        steps += 1
        stood += any(
            r.request_id not in output.num_scheduled_tokens and not r.num_output_placeholders
            for r in bench.scheduler.running
        )
        assert steps < 5000
    return stood / steps


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.parametrize("strategy", ["lcf", "backfill", "bidkv", "bidkv2"])
@pytest.mark.parametrize(("blocks", "seats", "seeds"), [(24, 8, 6), (60, 8, 6), (500, 64, 1)])
def test_a_victim_that_is_in_flight_makes_nobody_stand_still(
    model: Path, strategy: str, blocks: int, seats: int, seeds: int
) -> None:
    """In the mean over loads: in the few steps of a small one a single step is much."""
    mine, stock = (
        sum(stalled(model, name, blocks, seats, seed) for seed in range(seeds)) / seeds
        for name in (strategy, None)
    )
    assert mine <= stock + 0.01


def head_start(model: Path, strategy: str | None, output: int, every: int) -> int:
    """Steps until a first in line of 70 % of the memory starts while small ones keep coming (vLLM 33499)."""
    bench = ServerBench(model, strategy, blocks=1001)
    for number in range(8):
        bench.add(f"a{number}", 128 + number * 150, output - number * output // 12)
    for _ in range(10):
        bench.step()
    bench.add("head", 11200, 50)
    for step in range(1, 8000):
        if step % every == 1:
            bench.add(f"p{step}", 128, output)
        bench.step()
        if "head" in bench.started:
            return step
    raise AssertionError("never")


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.parametrize(("output", "every"), [(600, 25), (600, 100), (1200, 25)])
def test_the_first_in_line_gets_its_memory_back_from_those_that_passed(
    model: Path, output: int, every: int
) -> None:
    assert head_start(model, "backfill", output, every) <= 1.5 * head_start(model, None, output, every)


@pytest.mark.parametrize("strategy", create_default_registry().list_strategies())
def test_nothing_is_kept_of_a_request_that_left(model: Path, strategy: str) -> None:
    cached = create_default_registry().get(strategy).needs_cache
    settings = {"client_facts": True}
    bench = ServerBench(model, strategy, blocks=200, seats=8, settings=settings, enable_prefix_caching=cached)
    served: list[weakref.ref[Any]] = []
    for number in range(400):
        request = bench.request(f"r{number}", 64, 2)
        request.sampling_params.extra_args = {"bidkv": {"true_output_tokens": 2}}
        bench.scheduler.add_request(request)
        served.append(weakref.ref(request))
        if number % 40 == 7:
            bench.scheduler.finish_requests([f"r{number}"], RequestStatus.FINISHED_ABORTED)
        del request
    bench.run()
    bench.started.clear()
    gc.collect()
    assert sum(one() is not None for one in served) == 0
    scheduler = bench.scheduler
    assert scheduler._bidkv_tickets.held == 0
    assert scheduler._bidkv_counting.held == 0
    assert not scheduler._bidkv_accounts


def test_a_choice_that_vllm_does_not_carry_out_is_counted(model: Path) -> None:
    bench = ServerBench(model, "lcf", blocks=24, seats=8, budget=512, asynchronous=True)
    if not hasattr(bench.scheduler, "_request_blocks_can_be_freed"):
        pytest.skip("this vLLM carries every choice out")
    bench.scheduler.defer_block_free = True
    for number in range(12):
        bench.add(str(number), 20 if number % 3 == 0 else 110, 60)
    bench.run()
    counters = bench.scheduler._bidkv_session.log.counters
    assert counters["preemptions"] > 0
    assert counters["unexecuted_choices"] > 0


def fails(*_: Any) -> bool:
    raise ZeroDivisionError


def key_of_two_lengths(policy: Any, request: Any, now: float = 0.0) -> tuple[float, ...]:
    return () if request.request_id == "long" else (0.0, 1.0)


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("passes_alone", fails),
        ("passes_alone", lambda *_: "no"),
        ("admits", lambda *_: None),
        ("reserve", lambda *_: math.inf),
        ("reserve", lambda *_: math.nan),
        ("key", key_of_two_lengths),
    ],
)
def test_a_policy_that_fails_or_returns_nonsense_does_not_stop_the_server(
    model: Path, monkeypatch: pytest.MonkeyPatch, method: str, broken: Callable[..., Any]
) -> None:
    monkeypatch.setattr(Backfill, method, broken)
    bench = ServerBench(model, "backfill")
    bench.add("long", 600, 100)
    bench.add("head", 1300, 2)
    bench.add("small", 30, 4)
    bench.run()
    assert sorted(bench.started) == ["head", "long", "small"]
    assert bench.scheduler._bidkv_session.log.counters["strategy_errors"] >= 1


def stepwise(
    model: Path, folder: Path, strategy: str, steps: bool, patch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """The `request` events of a load under pressure, with or without a record of each step."""
    os.makedirs(folder, exist_ok=True)
    now = [1000.0]
    patch.setattr(BidKVSchedulerMixin, "_bidkv_clock", staticmethod(lambda: now[0]))
    settings = {
        "events_path": str(folder / "events.jsonl"),
        "steps_path": str(folder / "steps.jsonl") if steps else None,
    }
    bench = ServerBench(
        model, strategy, blocks=40, seats=12, budget=256, settings=settings, enable_prefix_caching=True
    )
    for number in range(40):
        bench.add(str(number), [7] * 64 + [number + 9] * (number * 37 % 150 + 5), number * 13 % 50 + 2)
    bench.scheduler._bidkv_gate.look_s = math.inf  # else what is decided depends on how busy the machine is
    while bench.scheduler.has_unfinished_requests():
        bench.step()
        now[0] += 0.02
    bench.scheduler.shutdown()
    records = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [record for record in records if record["type"] == "request"]


@pytest.mark.parametrize("strategy", ["stock", "lcf", "backfill"])
def test_accounts_are_the_same_whether_each_step_is_counted_or_not(
    model: Path, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Callable[[bool], list[dict[str, Any]]] = lambda steps: stepwise(  # noqa: E731
        model, tmp_path / f"{strategy}{steps}", strategy, steps, monkeypatch
    )
    exact = ("id", "executed", "recomputed", "cached", "cached_resume", "preemptions", "output")
    with_steps, without = (
        [{key: r[key] for key in exact} for r in counted(steps)] for steps in (True, False)
    )
    assert with_steps == without
    assert sum(r["preemptions"] for r in without) > 0 and sum(r["recomputed"] for r in without) > 0


def test_vllms_own_priority_policy_is_refused_in_one_line(model: Path) -> None:
    with pytest.raises(UnknownLayoutError, match="use the strategy 'priority' instead") as error:
        ServerBench(model, "backfill", scheduling_policy="priority")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("owner", "name", "value", "said"),
    [
        ("", "is_encoder_decoder", True, "encoder-decoder"),
        ("vllm_config.model_config", "is_diffusion", True, "diffusion"),
        ("kv_cache_config", "hisparse_host_num_blocks", 4, "HiSparse"),
        ("", "prefix_replay_tokens", 64, "computed again"),
    ],
)
def test_what_is_not_followed_is_refused(model: Path, owner: str, name: str, value: Any, said: str) -> None:
    scheduler = ServerBench(model, None).scheduler
    check_followed(scheduler)
    held = scheduler
    for part in filter(None, owner.split(".")):
        holder, held = held, SimpleNamespace(**vars(getattr(held, part)))
        object.__setattr__(holder, part, held)
    setattr(held, name, value)
    with pytest.raises(UnknownLayoutError, match=said):
        check_followed(scheduler)
