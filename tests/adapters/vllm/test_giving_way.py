"""Those that passed the first in line give way to it in whatever state they are, and only if that lets it in."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from server_bench import ServerBench

from bidkv.adapters.vllm.scheduler import BidKVSchedulerMixin
from ray_jobs.engines.shared.tiny_model import make_tiny_llama

STEP_S = 0.015


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("giving_way"), max_len=32768)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, model: Path) -> Any:
    """Makes a bench; its steps last 15 ms."""

    def made(strategy: str | None, **more: Any) -> ServerBench:
        bench = ServerBench(model, strategy, **{"blocks": 1001} | more)
        clock = staticmethod(lambda: 1000.0 + bench.steps * STEP_S)
        monkeypatch.setattr(BidKVSchedulerMixin, "_bidkv_clock", clock)
        return bench

    return made


def tokens(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(3, 2000), k=count)


def start_of_head(
    bench: ServerBench,
    passers: int,
    own: int,
    shared: int = 0,
    head_shares: bool = False,
    old_output: int = 200,
    most: int = 3000,
) -> int:
    """Steps until a first one of 74 % of the memory starts, of whom the one that ran before it is done while passers go on."""
    prefix = tokens(1, shared)
    bench.add("old", tokens(2, 4800), old_output, arrival_time=1000.0)
    for _ in range(8):
        bench.step()
    arrival = {"arrival_time": 1000.0 + bench.steps * STEP_S}
    bench.add("head", (prefix if head_shares else []) + tokens(3, 11900 - shared * head_shares), 2, **arrival)
    for number in range(passers):
        for _ in range(4):
            bench.step()
        bench.add(f"p{number}", prefix + tokens(4 + number, own), 2900, **arrival)
    for step in range(1, most):
        bench.step()
        if "head" in bench.started:
            return step
    raise AssertionError("never")


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize(("passers", "own"), [(1, 5500), (12, 400)])
def test_passers_that_run_alone_or_are_in_flight_give_way(
    bench: Any, passers: int, own: int, fenced: bool
) -> None:
    def start(strategy: str | None) -> int:
        one = bench(strategy, asynchronous=True)
        one.scheduler.defer_block_free = fenced
        steps = start_of_head(one, passers, own)
        assert strategy is None or len(one.started) == 2 + passers  # all of them passed
        return steps

    assert start("backfill") <= start(None) + 2.5 / STEP_S  # a grace of two seconds


@pytest.mark.parametrize("sliding", [0, 1])
def test_what_only_passers_share_comes_free_with_the_last_of_them(bench: Any, sliding: int) -> None:
    def start(strategy: str | None) -> int:
        engine = {"enable_prefix_caching": True, "sliding_groups": sliding}
        return start_of_head(bench(strategy, **engine), passers=3, own=64, shared=4800)

    assert start("backfill") <= start(None) + 2.5 / STEP_S


def test_nobody_gives_way_for_blocks_that_the_first_in_line_counts_on(bench: Any) -> None:
    one = bench("backfill", enable_prefix_caching=True)
    one.add("stays", tokens(9, 4800), 1500, arrival_time=1000.0)  # the head and it do not fit together
    with pytest.raises(AssertionError, match="never"):
        start_of_head(one, passers=1, own=1600, shared=3200, head_shares=True, old_output=100, most=900)
    assert "p0" in one.started
    assert one.requests["p0"].num_preemptions == 0


@pytest.mark.parametrize("sliding", [0, 1])
def test_what_comes_free_in_turn_is_what_vllm_frees(bench: Any, sliding: int) -> None:
    rng = random.Random(5)
    for _ in range(10):
        one = bench("stock", blocks=3001, sliding_groups=sliding, enable_prefix_caching=True)
        prefix = tokens(1, 640)
        for number in range(12):
            one.add(
                str(number),
                prefix[: rng.choice([0, 160, 320, 640])] + tokens(number, rng.randrange(5, 200)),
                50,
            )
        for _ in range(5):
            one.step()
        scheduler = one.scheduler
        blocks, names = scheduler._bidkv_blocks, rng.sample(list(scheduler.requests), 7)
        promised, counted = blocks.freed_in_turn(names), blocks.freed_in_turn(names, {-1})
        freed = []
        for name in names:
            free = blocks.free()
            scheduler.kv_cache_manager.free(scheduler.requests[name])
            freed.append(blocks.free() - free)
        assert promised == counted == freed


@pytest.mark.parametrize("caching", [False, True])
def test_what_is_held_in_several_groups_is_counted_without_blocks_that_windows_let_go(
    bench: Any, caching: bool
) -> None:
    one = bench("stock", blocks=3001, sliding_groups=2, enable_prefix_caching=caching)
    prefix = tokens(1, 800)  # longer than a window of 512
    for number in range(6):
        one.add(str(number), prefix + tokens(number, 40), 200)
    for step in range(120):
        one.step()
        blocks, groups = one.scheduler._bidkv_blocks, one.scheduler.kv_cache_manager.coordinator
        tables = [
            [b for group in groups.single_type_managers for b in group.req_to_blocks.get(name, ())]
            for name in one.scheduler.requests
        ]
        totals = [sum(not block.is_null for block in table) for table in tables]
        private = [sum(block.ref_cnt == 1 and not block.is_null for block in table) for table in tables]
        assert blocks.held_by(list(one.scheduler.requests)) == (totals, private)
        if step == 100:
            assert any(block.is_null for block in tables[0])
            assert (totals != private) == caching


def test_a_first_in_line_that_gets_no_memory_back_is_passed_for_a_second(bench: Any) -> None:
    """It needs a fifth of the memory, one small request comes every fourth step and fits beside those that run."""

    def passed(**rules: float) -> int:
        one = bench("backfill", settings={"admission_params": rules})
        one.add("old", tokens(2, 8000), 900, arrival_time=1000.0)
        one.add("older", tokens(5, 5000), 900, arrival_time=1000.0)
        for _ in range(10):
            one.step()
        now = 1000.0 + one.steps * STEP_S
        one.add("head", tokens(3, 3200), 2, arrival_time=now)
        for number in range(60):
            one.add(f"p{number}", tokens(10 + number, 20), 4, arrival_time=now)
            for _ in range(4):
                one.step()
        assert "head" not in one.started
        return sum(name.startswith("p") for name in one.started)

    whole = {"alone_after": 0, "growth": 0.0, "max_overtaken": 1000}
    steps = 1.0 / STEP_S
    assert steps / 4 - 2 <= passed(passing=0.1, passing_s=1.0, **whole) <= steps / 4 + 2
    assert passed(passing=float("inf"), **whole) >= 55


def crowded(bench: Any, head: int, passers: int, **rules: float) -> ServerBench:
    """A first in line of `head` tokens, 4,600 of which would fit were those that it waits for done, and small ones behind it."""
    one = bench("backfill", settings={"admission_params": rules})
    one.add("stays", tokens(5, 11_360), 2900, arrival_time=1000.0)
    one.add("old", tokens(2, 1_500), 120, arrival_time=1000.0)
    for _ in range(12):
        one.step()
    now = 1000.0 + one.steps * STEP_S
    one.add("head", tokens(3, head), 50, arrival_time=now)
    for number in range(passers):
        one.add(f"p{number}", tokens(10 + number, 100), 2900, arrival_time=now)
    return one


def steps_to(one: ServerBench, name: str, most: int) -> int:
    for step in range(most):
        if name in one.started:
            return step
        one.step()
    return most


def test_a_first_in_line_of_any_size_gets_its_memory_back(bench: Any) -> None:
    """It needs a fifth of the memory."""
    alone = steps_to(crowded(bench, head=3200, passers=0), "head", 1000)
    assert 100 < alone < 130  # "old" is done
    one = crowded(bench, head=3200, passers=14)
    assert steps_to(one, "head", 1000) <= alone + 2.5 / STEP_S
    assert len(one.started) > 4  # it was passed
    assert steps_to(crowded(bench, head=3200, passers=14, grace_s=1e9), "head", 1000) == 1000


def test_nobody_passes_a_first_in_line_that_fits(bench: Any) -> None:
    one = crowded(bench, head=2900, passers=30, headroom=0.05)
    assert steps_to(one, "head", 100) <= 3
    assert one.started == ["stays", "old", "head"]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_holds_nobody_back_longer_or_shorter(
    bench: Any, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """One that fits waits for as long again as it had waited when it was held back, 100 steps."""

    def start(jump: float) -> int:
        held = {"headroom": 0.4, "growth": 0.0, "patience": 1.0}
        one = bench("backfill", settings={"admission_params": held})
        one.add("runs", tokens(2, 9000), 900, arrival_time=1000.0)
        one.step()
        one.add("next", tokens(3, 3200), 2, arrival_time=1000.0 + (one.steps - 100) * STEP_S)
        with monkeypatch.context() as patch:
            wall = time.time
            patch.setattr(time, "time", lambda: wall() + jump)
            return steps_to(one, "next", 500)

    assert 95 < start(0.0) < 115
    assert start(jump) == start(0.0)


def test_whoever_is_preempted_does_not_stand_in_front_of_one_that_is_passed_no_more(bench: Any) -> None:
    one = crowded(bench, head=3200, passers=14, grace_s=1e9)
    preempted: list[str] = []
    for _ in range(1500):
        one.step()
        waiting = [request.request_id for request in one.scheduler.waiting]
        preempted = [name for name, r in one.requests.items() if r.num_preemptions and name in waiting]
        if preempted:
            break
    assert preempted and all(name.startswith("p") for name in preempted)
    assert waiting[0] == "head"
