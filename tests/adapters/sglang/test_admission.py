"""Who is admitted, by SGLang's real scheduler with a stand-in for its model: see `real_scheduler.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bidkv.adapters.shared.control import ControlFile, write_control
from bidkv.adapters.shared.events import read_events

FREE = {"headroom": 0.0, "growth": 0.0, "alone_after": 0}
PLAIN = {"page_size": 1, "chunked_prefill_size": 256, "disable_overlap_schedule": True}


def play(scheduler: Any, arrivals: dict[int, Sequence[Any]]) -> list[str]:
    """Runs requests, by the round in which they arrive; their order of starting."""
    from real_scheduler import started

    left = dict(arrivals)
    scheduler.run(lambda number: left.pop(number, ()), lambda: bool(left))
    assert not any(scheduler.leftovers().values())
    return started(scheduler)


def prompts(count: int, seed: int = 0, longest: int = 120) -> list[list[int]]:
    random = Random(seed)
    return [[random.randrange(3, 512) for _ in range(random.randint(8, longest))] for _ in range(count)]


def blocked(scheduler: Any, others: int = 6, each: int = 20) -> dict[int, list[Any]]:
    """One that holds 300 of 512 tokens, one that needs 300, and small ones behind it."""
    sizes = {"runs": (300, 60), "big": (300, 10)} | {f"s{i}": (each, 4) for i in range(others)}
    reqs = [
        scheduler.request(name, [3 + i, *range(size - 1)], output)
        for i, (name, (size, output)) in enumerate(sizes.items())
    ]
    return {1: reqs[:1], 3: reqs[1:]}


def backfill(hooked: Callable[..., Any], scheduler: Any, **params: Any) -> Any:
    return hooked(
        scheduler,
        strategy="backfill",
        admission="backfill",
        victim="lcf-guard",
        admission_params=FREE | params,
    )


def test_who_fits_passes_a_first_one_that_does_not(real: Any, hooked: Callable[..., Any]) -> None:
    scheduler = real(**PLAIN)
    assert play(scheduler, blocked(scheduler)) == ["runs", "big", *(f"s{i}" for i in range(6))]
    scheduler.reset()
    backfill(hooked, scheduler)
    assert play(scheduler, blocked(scheduler)) == ["runs", *(f"s{i}" for i in range(6)), "big"]


def test_no_more_are_tried_than_the_policy_says(real: Any, hooked: Callable[..., Any]) -> None:
    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, depth=2)
    arrivals = blocked(scheduler, others=0)
    arrivals[3] += [scheduler.request(n, [9, *range(s)], 4) for n, s in (("c", 350), ("d", 360), ("e", 20))]
    assert play(scheduler, arrivals)[:2] == ["runs", "big"], "e would fit, as the third behind it"


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_nobody_is_overtaken_more_often_than_the_policy_says(
    real: Any, hooked: Callable[..., Any], limit: int
) -> None:
    from real_scheduler import most_overtaken

    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, max_overtaken=limit)
    order = play(scheduler, blocked(scheduler))
    assert order.index("big") == 1 + limit and most_overtaken(scheduler.history) == limit


def test_an_order_that_is_not_of_arrival_keeps_the_bound_too(real: Any, hooked: Callable[..., Any]) -> None:
    """The most waiting: the one that joined first is offered last by `bidkv2`, but no more than so often."""
    from real_scheduler import most_overtaken

    scheduler = real(tokens=300, seats=3, **PLAIN)
    hooked(scheduler, strategy="bidkv2", admission_params={"max_overtaken": 4})
    reqs = [scheduler.request(f"r{i}", p, 8) for i, p in enumerate(prompts(40))]
    play(scheduler, {1: reqs[:20], 9: reqs[20:]})
    assert most_overtaken(scheduler.history) <= 4


def test_passers_make_no_prefill_of_their_own_but_after_a_while(
    real: Any, hooked: Callable[..., Any]
) -> None:
    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, alone_after=20, alone_after_s=1e9, alone_each=1e9)
    play(scheduler, blocked(scheduler))
    first = next(i for i, step in enumerate(scheduler.steps) if any(rid == "s0" for rid, _ in step))
    assert [len(step) for step in scheduler.steps[:first]] == [1] * first and 20 <= first <= 22


def test_passers_join_a_prefill_that_takes_place_anyway(real: Any, hooked: Callable[..., Any]) -> None:
    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, alone_after=1000, alone_after_s=1e9, alone_each=1e9)
    arrivals = blocked(scheduler, others=4)
    arrivals[3].insert(0, scheduler.request("anyway", [8] * 30, 4))
    assert play(scheduler, arrivals) == ["runs", "anyway", *(f"s{i}" for i in range(4)), "big"]


@pytest.mark.parametrize("overlap", [False, True])
def test_passers_give_their_memory_back_to_the_first_in_line(
    real: Any, hooked: Callable[..., Any], optimistic: None, overlap: bool
) -> None:
    """One that runs leaves after 30 steps; passers would hold its memory for 90 more."""

    def begins(**params: Any) -> int:
        adapter = backfill(hooked, scheduler, **params)
        small = [scheduler.request(f"s{i}", [9 + i] * 20, 120) for i in range(9)]
        reqs = [scheduler.request("runs", [3] * 300, 30), scheduler.request("big", [4] * 300, 10), *small]
        play(scheduler, {1: reqs[:1], 3: reqs[1:]})
        assert {rid: len(tokens) for rid, tokens in scheduler.outputs.items()} == {
            "runs": 30,
            "big": 10,
        } | {f"s{i}": 120 for i in range(9)}
        assert not adapter._accounts
        scheduler.reset()
        return next(i for i, step in enumerate(scheduler.steps) if any(rid == "big" for rid, _ in step))

    scheduler = real(**PLAIN | {"disable_overlap_schedule": not overlap})
    late = begins(reclaims=False)
    soon = begins(reclaims=True, grace=0.0, grace_s=0.0)
    assert soon < 45 and late > 60


def test_whoever_gave_way_goes_back_to_its_place_and_is_recorded(
    real: Any, hooked: Callable[..., Any], optimistic: None, tmp_path: Path
) -> None:
    scheduler = real(**PLAIN)
    path = tmp_path / "events.jsonl"
    params = FREE | {"grace": 0.0, "grace_s": 0.0}
    adapter = hooked(scheduler, strategy="backfill", admission_params=params, events_path=str(path))
    small = [scheduler.request(f"s{i}", [9 + i] * 20, 120) for i in range(3)]
    reqs = [scheduler.request("runs", [3] * 300, 30), scheduler.request("big", [4] * 400, 10), *small]
    play(scheduler, {1: reqs[:1], 3: reqs[1:]})
    adapter.close()
    gave = [e for e in read_events(path) if e["type"] == "preempt" and e["source"] == "reclaim"]
    assert gave and gave[0]["requester"] == "big"
    for_big = [event for event in gave if event["requester"] == "big"]
    assert len({event["step"] for event in for_big}) == 1, "none in vain"
    victims = [event["victim"] for event in for_big]
    assert victims == sorted(victims, reverse=True), "the last to start goes first"
    after = scheduler.history.index(("start", "big"))
    assert {rid for event, rid in scheduler.history[after:] if event == "start"} >= set(victims)


@pytest.mark.parametrize(("patience", "waits"), [(math.inf, True), (0.0, False)])
def test_a_first_one_that_fits_is_not_held_back_for_ever(
    real: Any, hooked: Callable[..., Any], patience: float, waits: bool
) -> None:
    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, headroom=0.4, patience=patience)
    arrivals = {1: [scheduler.request("runs", [3] * 200, 60)], 3: [scheduler.request("next", [4] * 200, 5)]}
    play(scheduler, arrivals)
    begins = next(i for i, step in enumerate(scheduler.steps) if any(rid == "next" for rid, _ in step))
    assert (begins >= 60) == waits and (waits or begins < 20)


@pytest.mark.parametrize(("passing", "first"), [(math.inf, "s0"), (0.1, "next")])
def test_nobody_passes_a_first_one_that_fits_and_is_held_back(
    real: Any, hooked: Callable[..., Any], passing: float, first: str
) -> None:
    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, headroom=0.4, patience=math.inf, passing=passing)
    small = [scheduler.request(f"s{i}", [9 + i] * 20, 4) for i in range(3)]
    arrivals = {
        1: [scheduler.request("runs", [3] * 200, 60)],
        3: [scheduler.request("next", [4] * 200, 5), *small],
    }
    assert play(scheduler, arrivals)[1] == first


@pytest.mark.parametrize(("passing", "pass_it"), [(math.inf, 6), (0.0, 1)])
def test_a_first_one_that_gets_nothing_back_is_passed_for_a_while_only(
    real: Any, hooked: Callable[..., Any], passing: float, pass_it: int
) -> None:
    scheduler = real(**PLAIN)
    backfill(hooked, scheduler, reclaims=False, passing=passing, passing_s=0.0)
    arrivals = blocked(scheduler, others=0)
    for number in range(6):
        arrivals[4 + 4 * number] = [scheduler.request(f"s{number}", [40 + number] * 20, 4)]
    assert play(scheduler, arrivals).index("big") - 1 <= pass_it
    assert passing == 0.0 or scheduler.history.index(("start", "s5")) < scheduler.history.index(
        ("start", "big")
    )


def test_a_gate_without_backfill_lets_nobody_pass(real: Any, hooked: Callable[..., Any]) -> None:
    scheduler = real(**PLAIN)
    hooked(scheduler, strategy="watermark", admission_params={"headroom": 0.4})
    arrivals = blocked(scheduler, others=2)
    arrivals[3][0] = scheduler.request("big", [9] * 180, 10)  # 30 of 512 would stay free
    order = play(scheduler, arrivals)
    assert order == ["runs", "big", "s0", "s1"]
    begins = next(i for i, step in enumerate(scheduler.steps) if any(rid == "big" for rid, _ in step))
    assert begins >= 60, "while something runs, 40 % stay free"


def test_a_gate_asks_with_what_sglang_says_is_free(real: Any, hooked: Callable[..., Any]) -> None:
    scheduler = real(**PLAIN)
    adapter = backfill(hooked, scheduler)
    asked: list[tuple[str, int, int]] = []

    def admits(state: Any, running: Any, pool: Any) -> bool:
        asked.append((state.request_id, pool.free_tokens, pool.needed_tokens))
        return True

    adapter._session.strategy.admission.admits = admits
    play(scheduler, blocked(scheduler, others=1))
    name, free, needed = asked[0]
    assert (name, needed) == ("s0", 20) and 512 - 310 < free <= 512 - 300


@pytest.fixture
def optimistic(monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang expects no more than 8 tokens of anybody, as `SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION=8`."""
    from sglang.srt.managers import schedule_policy

    monkeypatch.setattr(schedule_policy, "CLIP_MAX_NEW_TOKENS", 8)


def toggled(
    adapter: Any, scheduler: Any, reqs: list[Any], folder: Path, changes: dict[int, Any]
) -> list[str]:
    """A load whose settings change in the given rounds."""
    control = folder / "control.json"
    adapter._ranks._control = ControlFile(control, trusted=True)
    left = {1: reqs}

    def before(number: int) -> Sequence[Any]:
        if number in changes:
            write_control(control, changes[number])
        return left.pop(number, ())

    from real_scheduler import started

    scheduler.run(before, lambda: bool(left))
    return started(scheduler)


OFF, ON = {"kill_switch": True}, {"kill_switch": False}


@pytest.mark.parametrize(
    "changes",
    [
        {6: OFF, 7: ON},
        {6: OFF, 40: ON, 50: OFF, 51: ON},
        {6: {"strategy": "preempt-evict"}, 30: {"strategy": "backfill"}},
        {6: {"strategy": "sglang_default"}, 30: {"strategy": "lcf"}},
        {6: {"strategy": "preempt-evict-sjf"}, 7: OFF},
        {6: {"strategy": "preempt-evict-sjf"}, 7: {"strategy": "backfill", "admission_params": {"depth": 1}}},
    ],
)
def test_the_queue_never_turns_around(
    real: Any, hooked: Callable[..., Any], tmp_path: Path, changes: dict[int, Any]
) -> None:
    """200 of the same size: whoever decides, from the kill switch to another strategy, the first to join starts first."""
    scheduler = real(tokens=900, seats=8, **PLAIN)
    adapter = hooked(scheduler, strategy="backfill")
    reqs = [scheduler.request(f"r{i:03}", [3 + i % 500] * 40, 6) for i in range(200)]
    order = toggled(adapter, scheduler, reqs, tmp_path, changes)
    assert order == sorted(order)
    assert not adapter._accounts and not len(adapter._places)


def test_the_kill_switch_gives_sglang_its_own_order_back(
    real: Any, hooked: Callable[..., Any], tmp_path: Path
) -> None:
    scheduler = real(tokens=900, seats=4, **PLAIN)
    adapter = hooked(scheduler, strategy="preempt-evict-sjf")
    reqs = [scheduler.request(f"r{i:02}", p, 6) for i, p in enumerate(prompts(40, seed=3))]
    order = toggled(adapter, scheduler, reqs, tmp_path, {8: OFF})
    before = [rid for rid in order if order.index(rid) < 8]
    assert before != sorted(before) and order[12:] == sorted(order[12:])


def test_a_finished_request_that_is_still_listed_does_not_run(real: Any, hooked: Callable[..., Any]) -> None:
    """With overlapped steps a batch lists one that has finished until the next batch is made of it."""
    scheduler = real(**PLAIN | {"disable_overlap_schedule": False})
    adapter = hooked(scheduler, strategy="backfill")
    seen = []

    def admits(state: Any, running: Any, pool: Any) -> bool:
        seen.append([other.request_id for other in running])
        return True

    adapter._session.strategy.admission.admits = admits
    reqs = [scheduler.request(f"r{i}", p, 5) for i, p in enumerate(prompts(12))]
    play(scheduler, {n: [req] for n, req in enumerate(reqs, 1)})
    assert seen and all(len(names) == len(set(names)) for names in seen)
