"""What a step costs, in calls that are counted: a time would depend on the machine."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

import scheduler_bench as bench

from bidkv.admission.base import AdmissionPolicy

TRUNK = [3 + n % 1900 for n in range(800)]  # 25 blocks that all have in common


def blocked(model: Path, strategy: str = "backfill", waiting: int = 0, **more: Any) -> bench.SchedulerBench:
    """Three requests run and `waiting` small ones stand behind a first one of 29 blocks, which finds no room."""
    machine = bench.SchedulerBench(model, {"strategy": strategy, **more}, blocks=36, prefix_caching=True)
    for index in range(3):
        machine.add(f"runs{index}", [*TRUNK, 1990 + index], 150)
        machine.step()
    machine.add("large", [*TRUNK[:640], *range(5, 300)], 20)
    for index in range(waiting):
        machine.add(f"waits{index}", [*TRUNK[:640], *(7 + index for _ in range(290))], 20)
    for _ in range(3):
        machine.step()
    return machine


def counted(owner: Any, name: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stock = getattr(owner, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return stock(*args, **kwargs)

    monkeypatch.setattr(owner, name, counting)


def test_a_blocked_first_one_is_not_looked_up_block_by_block_in_every_step(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    machine = blocked(tiny_model)
    pool = machine.scheduler.kv_cache_manager.block_pool
    counted(pool, "get_cached_block", calls, monkeypatch)
    for _ in range(10):
        machine.step()
    assert [r.request_id for r in machine.scheduler.waiting] == ["large-0123abcd"]
    assert 10 <= calls["get_cached_block"] <= 20  # vLLM by itself: 21 in each step
    machine.run()


def test_what_was_found_is_looked_up_again_when_it_is_gone(tiny_model: Path) -> None:
    machine = blocked(tiny_model)
    demand, large = machine.scheduler._bidkv_demand, machine.requests["large"]
    found = demand.exact(large)
    assert demand.exact(large) == found < demand.most(large)
    (blocks,) = machine.scheduler.kv_cache_manager.get_blocks("runs0-0123abcd").blocks
    machine.scheduler.kv_cache_manager.evict_blocks({blocks[0].block_id})
    demand.begin()
    assert demand.exact(large) == demand.most(large)


def test_the_reserve_is_asked_once_for_all_who_are_looked_at(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growth leaves no room: nobody behind the first one is looked at, and who runs is summed over once."""
    calls: Counter[str] = Counter()
    machine = blocked(tiny_model, waiting=30)
    scheduler = machine.scheduler
    gate, policy = scheduler._bidkv_gate, scheduler._bidkv_session.strategy.admission
    monkeypatch.setattr(policy, "reserve", lambda running, pool: 1e12)
    monkeypatch.setattr(policy, "headroom", 1e-9)
    monkeypatch.setattr(policy, "alone_after", 0)
    monkeypatch.setattr(policy, "patience", math.inf)
    monkeypatch.setattr(gate._demand, "most", lambda request: 1)  # memory is not what is lacking
    counted(policy, "reserve", calls, monkeypatch)
    counted(gate, "may_go_ahead", calls, monkeypatch)
    for _ in range(5):
        machine.step()
        assert gate.looked.running <= len(scheduler.running)
        assert gate.looked.candidates == 0
    assert calls["reserve"] == 5


def test_looking_stops_when_its_time_is_up_and_goes_on_in_the_next_step(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = blocked(tiny_model, waiting=30)
    gate = machine.scheduler._bidkv_gate
    policy = machine.scheduler._bidkv_session.strategy.admission
    monkeypatch.setattr(policy, "alone_after", 0)
    gate.look_s = 0.0
    looked = []
    for _ in range(5):
        machine.step()
        looked.append(gate.looked.candidates)
    assert looked == [1] * 5
    gate.look_s = math.inf
    machine.step()
    assert gate.looked.candidates > 5


def test_joining_a_long_common_prompt_touches_runs_of_blocks_not_each(tiny_model: Path) -> None:
    machine = bench.SchedulerBench(
        tiny_model, {"strategy": "backfill"}, blocks=100, seats=12, prefix_caching=True
    )
    for index in range(10):
        machine.add(f"r{index}", [*TRUNK[: 640 + 160 * (index % 2)], 1990 + index], 40)
        machine.step()
    ledger = machine.scheduler._bidkv_blocks.shared
    assert len(machine.scheduler.running) == 10
    assert len(ledger._runs) == 25  # blocks
    assert len({id(run) for run in ledger._runs.values()}) <= 3
    machine.run()
    assert ledger.tracked == 0


@pytest.mark.parametrize("strategy", ["bidkv2", "hrrn"])
def test_keys_are_asked_of_a_bounded_number_in_each_step(tiny_model: Path, strategy: str) -> None:
    machine = bench.SchedulerBench(tiny_model, {"strategy": strategy}, blocks=40, seats=4)
    rng = random.Random(5)
    for index in range(200):
        machine.add(f"r{index}", [7] * rng.randint(5, 200), rng.randint(2, 8))
    policy, asked = machine.scheduler._bidkv_session.strategy.admission, Counter[str]()
    key = policy.key

    def counting(request: Any, now: float = 0.0) -> Any:
        asked[request.request_id] += 1
        return key(request, now)

    policy.key = counting
    steps = 0
    while len(machine.scheduler.waiting) > 100:
        before = asked.total()
        machine.step()
        steps += 1
        assert asked.total() - before <= machine.scheduler._bidkv_resorts + 1 + policy.backfill
    waiting = [r.request_id.partition("-")[0] for r in machine.scheduler.waiting]
    assert steps >= 10 and all(asked[name] for name in waiting)  # everybody has had a turn


def test_who_only_reserves_need_not_be_asked_about_each() -> None:
    class Asks(AdmissionPolicy):
        name = "asks"

        def key(self, request: Any, now: float = 0.0) -> tuple[float, ...]:
            return ()

        def admits(self, request: Any, running: Any, pool: Any) -> bool:
            return False

    assert Asks().asks and not Asks().only_reserves
