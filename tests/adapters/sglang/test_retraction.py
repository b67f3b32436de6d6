"""Real `ScheduleBatch`, `Req`, radix tree and allocator driven to retraction with shared prefixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from bidkv import RequestState, Strategy, VictimPolicy
from bidkv.adapters.shared.events import read_events
from bidkv.admission.fcfs import Fcfs
from bidkv.victim.bidkv_radix import BidKVRadixVictim

TOKENS = 640
PAGES = (1, 4, 16)


def shared_prefix_load(driver: Any, seed: int, count: int = 20) -> list[Any]:
    """Requests of three families with nested prefixes, and some that share nothing."""
    random = Random(seed)
    family = {key: [random.randrange(3, 512) for _ in range(96)] for key in "abc"}
    reqs = []
    for i in range(count):
        key = random.choice("abcd")
        prefix = family[key][: random.choice((24, 48, 96))] if key in family else []
        prompt = prefix + [random.randrange(3, 512) for _ in range(random.randint(4, 40))]
        length = random.randint(16, 90)
        facts = {
            "max_tokens": length + random.randint(0, 40),
            "true_output_tokens": length,
            "arrival": float(i),
        }
        reqs.append(driver.request(f"{seed}-{i}", prompt, facts))
    return reqs


@pytest.fixture
def drive(tiny_model: Path, hooked: Callable[..., Any], tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Runs one load under a strategy; returns its driver, load and events."""
    from driver import Driver, Load

    def run(
        seed: int = 0,
        page: int = 1,
        tokens: int = TOKENS,
        watch: Any = None,
        count: int = 20,
        **settings: Any,
    ):
        driver = Driver(tiny_model, tokens, page)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        adapter = hooked(driver.scheduler, events_path=str(path), **settings) if settings else None
        load = Load(driver, shared_prefix_load(driver, seed, count), adapter)
        load.run(None if watch is None else lambda batch, victims: watch(driver, batch, victims))
        if adapter is not None:
            adapter.close()
        events = read_events(path) if settings else []
        preempts = [e for e in events if e["type"] == "preempt"]
        return SimpleNamespace(driver=driver, load=load, events=events, preempts=preempts)

    return run


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("victim", ["bidkv_radix", "random", "lifo", "largest"])
def test_private_tokens_are_what_is_really_freed(drive: Callable[..., Any], page: int, victim: str) -> None:
    from driver import private_pages

    calls: list[tuple[int, dict[str, set[int]]]] = []

    def watch(driver: Any, batch: Any, victims: int) -> None:
        calls.append((victims, driver.pages_by_row(batch.reqs)))

    run = drive(seed=page, page=page, watch=watch, strategy="preempt-evict", victim=victim)
    assert len(run.preempts) == len(run.load.victims) >= 4
    ends = [start for start, _ in calls[1:]] + [len(run.preempts)]
    for (start, pages), end in zip(calls, ends, strict=True):
        for event in run.preempts[start:end]:
            expected = private_pages(pages)
            assert {c["id"]: c["private_blocks"] for c in event["candidates"]} == expected
            assert event["blocks_freed"] == expected[event["victim"]]
            assert event["source"] == "strategy"
            del pages[event["victim"]]


@pytest.mark.parametrize("page", PAGES)
def test_the_victim_has_the_highest_utility_of_the_formula(drive: Callable[..., Any], page: int) -> None:
    weights = {"completion_weight": 0.9, "preemption_weight": 0.2, "base_cost": 0.4, "tokens_per_cost": 64.0}
    run = drive(seed=7, page=page, strategy="bidkv_radix", params=weights)
    assert run.preempts

    def utility(c: dict[str, Any]) -> float:
        shared = -(-c["computed"] // page) - c["private_blocks"]
        private = c["computed"] - shared * page
        delta = (
            max(0.4, private / 64.0) + 0.9 * min(1.0, c["output"] / c["max_tokens"]) + 0.2 * c["preemptions"]
        )
        return private / (max(0.1, delta) + 1e-3)

    for event in run.preempts:
        best = max(utility(c) for c in event["candidates"])
        chosen = next(c for c in event["candidates"] if c["id"] == event["victim"])
        assert utility(chosen) == pytest.approx(best)
        assert event["score"] == pytest.approx(best)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("strategy", ["bidkv_radix", "largest-first", "static-random", "sglang_default"])
def test_outputs_are_those_of_a_run_without_pressure_and_nothing_leaks(
    drive: Callable[..., Any], page: int, strategy: str
) -> None:
    calm = drive(seed=2, page=page, tokens=8192)
    assert not calm.load.victims
    run = drive(seed=2, page=page, strategy=strategy)
    assert run.load.victims
    assert run.load.outputs == calm.load.outputs
    assert run.driver.reclaimable() == TOKENS
    assert run.driver.rows.available_size() == run.driver.rows.size


def test_sglang_default_decides_as_sglang_does(drive: Callable[..., Any]) -> None:
    stock = [drive(seed=seed) for seed in range(4)]  # before the hooks are on
    for seed in range(4):
        run = drive(seed=seed, strategy="sglang_default")
        assert run.load.victims == stock[seed].load.victims != []
        assert {e["source"] for e in run.preempts} == {"strategy"}


def test_the_kill_switch_leaves_the_choice_to_sglang(drive: Callable[..., Any]) -> None:
    stock = drive(seed=1)
    run = drive(
        seed=1, strategy="preempt-evict", admission="engine-order", victim="largest", kill_switch=True
    )
    assert run.load.victims == stock.load.victims
    assert {e["source"] for e in run.preempts} == {"kill_switch"}


class Broken(VictimPolicy):
    """Fails on every third decision and names a stranger on every other third."""

    name = "broken"
    source = "test"

    def __init__(self) -> None:
        self.calls = 0

    def select(self, candidates: Any, now: float) -> RequestState:
        self.calls += 1
        if self.calls % 3 == 0:
            raise RuntimeError("out of luck")
        return candidates[0] if self.calls % 3 == 1 else RequestState("stranger", 1, 1)


def test_a_strategy_that_fails_is_replaced_and_reported(
    drive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenStrategy(Strategy):
        name = "broken"
        admission_class = Fcfs
        victim_class = Broken

    monkeypatch.setattr("bidkv.strategies.BUILT_IN", (BrokenStrategy,))
    run = drive(seed=2, strategy="broken")
    assert {e["source"] for e in run.preempts} == {"strategy", "engine"}
    errors = [e for e in run.events if e["type"] == "strategy_error"]
    assert len(errors) == 1 and "stranger" in errors[0]["error"]
    end = run.events[-1]
    assert end["degraded"] and end["strategy_errors"] >= 2
    assert len(run.load.outputs) == 20 and run.driver.reclaimable() == TOKENS


def test_executed_tokens_add_up(drive: Callable[..., Any]) -> None:
    run = drive(seed=3, strategy="static-random")
    requests = [e for e in run.events if e["type"] == "request"]
    assert len(requests) == 20 and sum(e["preemptions"] for e in requests) == len(run.preempts) > 0
    for e in requests:
        assert e["executed"] == e["prompt"] + e["output"] - 1 + e["recomputed"] - e["cached"]
        assert e["overrun"] == 0
        assert len(e["resume_delays"]) == e["preemptions"]
    assert sum(e["cached"] for e in requests) > 0 and sum(e["recomputed"] for e in requests) > 0


def test_a_chunked_prefill_outside_the_batch_counts_as_a_holder(
    tiny_model: Path, hooked: Callable[..., Any], tmp_path: Path
) -> None:
    from driver import Driver, private_pages

    driver = Driver(tiny_model, 256)
    adapter = hooked(driver.scheduler, strategy="bidkv_radix")
    prefix = list(range(3, 67))
    first = driver.request("first", [*prefix, 400])
    second = driver.request("second", [*prefix, 401])
    for req in (first, second):
        adapter._add_request_to_queue(lambda s, r, _: s.waiting_queue.append(r), driver.scheduler, req)
    driver.join(driver.admit([first]))
    driver.admit([second])
    states = {"first": adapter._refresh(first)}
    adapter._pool.measure(states, driver.batch.reqs)
    assert states["first"].private_tokens == 65
    driver.scheduler.chunked_req = second
    adapter._pool.measure(states, driver.batch.reqs)
    assert states["first"].private_tokens == 1
    assert private_pages(driver.pages_by_row([first, second]))["first"] == 1


def test_private_tokens_are_needed() -> None:
    with pytest.raises(ValueError, match="private_tokens of request 'r' is not known"):
        BidKVRadixVictim().select([RequestState("r", 10, 10)], 0.0)
