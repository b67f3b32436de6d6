"""Retention on vLLM's real scheduler and block pool; the model is a stand-in that checks KV content."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.layout import UnknownLayoutError
from bidkv.owner import Owner
from bidkv.registry import create_default_registry
from bidkv.retention import RULES
from bidkv.retention.base import Retention
from bidkv.retention.lru import Lru

pytest.importorskip("vllm", reason="vLLM is not installed")
bench = importlib.import_module("scheduler_bench")
OTHERS = [cls.name for cls in RULES if not cls.stock]


def make(
    model: Path,
    retention: str = "lru",
    *,
    strategy: str = "preempt-evict",
    stock: bool = False,
    **options: Any,
) -> Any:
    settings = {"strategy": strategy, "retention": retention}
    options = {"prefix_caching": True, "blocks": 20, **options}
    return bench.SchedulerBench(model, {} if stock else settings, stock=stock, **options)


def chats(machine: Any, seed: int, users: int = 8, turns: int = 4) -> Iterator[None]:
    """Users with a common beginning send turn after turn, in any order; a step is done after each yield."""
    draw = random.Random(seed)
    system = [draw.randrange(3, 2000) for _ in range(40)]
    talk = [[*system, *(draw.randrange(3, 2000) for _ in range(30))] for _ in range(users)]
    sent: list[Any] = [None] * users
    left = [turns] * users
    number = 0
    while any(left) or machine.scheduler.has_unfinished_requests():
        for user in range(users):
            if sent[user] is not None and sent[user].is_finished():
                talk[user] += [*sent[user].output_token_ids, *(draw.randrange(3, 2000) for _ in range(20))]
                sent[user] = None
            if left[user] and sent[user] is None and draw.random() < 0.4:
                prompt, left[user], number = talk[user], left[user] - 1, number + 1
                sent[user] = machine.add(f"r{number}", [*prompt], draw.randint(3, 30), max_tokens=30)
        yield
        machine.step()
    machine.run()


def free_order(machine: Any) -> list[int]:
    queue = machine.scheduler.kv_cache_manager.block_pool.free_block_queue
    return [block.block_id for block in queue.get_all_free_blocks()]


def check_queue(machine: Any) -> None:
    """vLLM's free queue is whole, both ways, and has each free block once."""
    pool = machine.scheduler.kv_cache_manager.block_pool
    queue = pool.free_block_queue
    order, back = free_order(machine), []
    block = queue.fake_free_list_tail.prev_free_block
    while block is not queue.fake_free_list_head:
        back.append(block.block_id)
        block = block.prev_free_block
    idle = [block.block_id for block in pool.blocks if not block.ref_cnt and not block.is_null]
    assert order == back[::-1] and len(order) == queue.num_free_blocks and sorted(order) == idle


@pytest.mark.parametrize("asynchronous", [False, True])
def test_lru_is_vllms_own_block_for_block(tiny_model: Path, asynchronous: bool) -> None:
    ours, stock = (make(tiny_model, stock=s, asynchronous=asynchronous) for s in (False, True))
    assert "get_new_blocks" not in vars(ours.scheduler.kv_cache_manager.block_pool)
    for _ in zip(chats(ours, 7), chats(stock, 7), strict=True):
        assert free_order(ours) == free_order(stock)
    assert {n: r.num_computed_tokens for n, r in ours.requests.items()} == {
        n: r.num_computed_tokens for n, r in stock.requests.items()
    }


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("retention", OTHERS)
def test_no_rule_breaks_the_queue_or_gives_away_blocks_in_use(
    tiny_model: Path, retention: str, asynchronous: bool
) -> None:
    """The stand-in raises if a request runs on KV that is not its own."""
    for seed in range(1 + (retention == "belady_oracle")):
        machine = make(tiny_model, retention, asynchronous=asynchronous)
        for _ in chats(machine, seed):
            check_queue(machine)
        for request in machine.requests.values():
            assert list(request.output_token_ids) == machine.expected_output(request)
        counters = machine.scheduler._bidkv_session.log.counters
        assert counters["strategy_errors"] == 0 and counters["preemptions"] > 0
        owners = machine.scheduler._bidkv_kept.owners
        assert not owners._turns and sum(owner.length for owner in owners._idle.values()) < 20 * 8
        machine.scheduler.reset_prefix_cache()
        assert not owners.tracked


class First(Retention):
    """Gives up the blocks of whoever came last, whatever was used when."""

    name = "first"
    source = "a test"

    def keep_order(self, idle: list[Owner], now: float) -> list[Owner]:
        return sorted(idle, key=lambda owner: -owner.name)


class Broken(Lru):
    name, stock = "broken", False

    def keep_order(self, idle: list[Owner], now: float) -> list[Owner]:
        raise ZeroDivisionError("no order today")


def chosen(machine: Any, policy: Retention) -> Any:
    machine.scheduler._bidkv_kept.choose(policy)
    return machine


def run_one(machine: Any, name: str, prompt: list[int]) -> None:
    machine.add(name, prompt, 2, max_tokens=2)
    machine.run()


def cached_tokens(machine: Any, prompt: list[int]) -> int:
    """Of whole blocks in the prefix cache, looked up without a run."""
    request = bench.Request(
        request_id="probe",
        prompt_token_ids=prompt,
        sampling_params=bench.SamplingParams(max_tokens=1),
        pooling_params=None,
        block_hasher=machine._hasher,
    )
    find = machine.scheduler.kv_cache_manager.block_pool.get_cached_block
    return sum(bench.BLOCK_SIZE for block_hash in request.block_hashes if find(block_hash, [0]))


@pytest.mark.parametrize("policy, kept", [(First(), (96, 0)), (Lru(), (0, 96))], ids=["first", "lru"])
def test_the_policy_says_whose_blocks_are_given_up(
    tiny_model: Path, policy: Retention, kept: tuple[int, int]
) -> None:
    """Two prompts of three blocks are idle in a pool of eight; a third one takes five."""
    machine = chosen(make(tiny_model, blocks=9), policy)
    a, b = [7] * 96, [9] * 96
    run_one(machine, "a", a)
    run_one(machine, "b", b)
    run_one(machine, "c", [11] * (5 * 32 - 2))
    check_queue(machine)
    assert (cached_tokens(machine, a), cached_tokens(machine, b)) == kept


def test_a_broken_rule_leaves_the_order_to_vllm_and_is_told(tiny_model: Path, tmp_path: Path) -> None:
    machine = chosen(make(tiny_model), Broken())
    for _ in chats(machine, 3):
        check_queue(machine)
    log = machine.scheduler._bidkv_session.log
    assert log.counters["strategy_errors"] == 1
    assert "get_new_blocks" not in vars(machine.scheduler.kv_cache_manager.block_pool)


def test_the_kill_switch_leaves_the_order_to_vllm(tiny_model: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "events.jsonl")
    settings = {"strategy": "preempt-evict", "retention": "gdsf", "kill_switch": True, "events_path": path}
    machine = bench.SchedulerBench(tiny_model, settings, prefix_caching=True)
    assert "get_new_blocks" not in vars(machine.scheduler.kv_cache_manager.block_pool)
    machine.scheduler.shutdown()
    assert read_events(path)[0]["retention"] == "gdsf"


def test_a_rule_that_could_decide_nothing_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UnknownLayoutError, match="retention 'gdsf' needs a prefix cache"):
        make(tiny_model, "gdsf", prefix_caching=False)
    machine = make(tiny_model)
    kept = machine.scheduler._bidkv_kept
    kept._groups = [*kept._groups, *kept._groups]
    registry = create_default_registry()
    with pytest.raises(UnknownLayoutError, match="retention 'gdsf' follows one KV cache group"):
        kept.check(registry.pair("fcfs", "lifo", "gdsf"))
    with pytest.raises(UnknownLayoutError, match="admission 'kept-first' follows one KV cache group"):
        kept.check(registry.pair("kept-first", "lifo"))
    kept.check(registry.get("stock"))


def test_an_admission_that_could_see_nothing_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UnknownLayoutError, match="admission 'kept-first' needs a prefix cache"):
        make(tiny_model, strategy="kept-first", prefix_caching=False)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_admission_that_asks_sees_what_is_cached_and_leaves_lru_alone(
    tiny_model: Path, asynchronous: bool
) -> None:
    """Owners that rest, and what waits, are compared with vLLM's own pool in every step."""
    machine = make(tiny_model, strategy="kept-first", asynchronous=asynchronous)
    scheduler, seen = machine.scheduler, 0
    pool, kept = scheduler.kv_cache_manager.block_pool, scheduler._bidkv_kept
    assert "get_new_blocks" not in vars(pool)
    for _ in chats(machine, 5):
        check_queue(machine)
        for owner in kept.resting():
            contents = [pool.blocks[block.block_id].block_hash for block in owner.blocks[: owner.length]]
            assert [content[:-4] for content in contents] == [*owner.hashes[: owner.length]]
            assert 0 < owner.tokens <= owner.length * bench.BLOCK_SIZE
            seen += 1
        for request in scheduler.waiting:
            found = scheduler.kv_cache_manager.coordinator.find_longest_cache_hit(
                request.block_hashes, request.num_tokens - 1
            )[1]
            for known in (None, 0, 64):
                assert scheduler._bidkv_demand.cached_tokens(request, known) == found
    assert seen > 50 and scheduler._bidkv_session.log.counters["strategy_errors"] == 0
    for request in machine.requests.values():
        assert list(request.output_token_ids) == machine.expected_output(request)
    assert len(kept.owners._idle) < 20
    machine.scheduler.reset_prefix_cache()
    assert not kept.owners.tracked


def test_a_client_says_for_how_long_it_will_be_away(tiny_model: Path) -> None:
    """Three prompts of three blocks in a pool of ten; a fourth takes six: of whom nothing is known goes first, then who is due last."""
    machine = make(tiny_model, "ttl_given", blocks=11)
    prompts = {name: [token] * 96 for name, token in (("soon", 7), ("late", 9), ("silent", 11))}
    for name, facts in (("soon", {"pause_s": 5.0}), ("late", {"pause_s": 600.0}), ("silent", {})):
        machine.add(name, prompts[name], 2, max_tokens=2, **facts)
        machine.run()
    run_one(machine, "new", [13] * (6 * 32 - 2))
    assert [cached_tokens(machine, prompts[name]) for name in ("soon", "late", "silent")] == [96, 32, 0]
