from __future__ import annotations

import math
import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidkv.adapters.shared.pace import Pace
from bidkv.adapters.shared.waiting import Entry, WaitingLine
from bidkv.request import PoolState


def line(keys: dict[str, float], **more) -> WaitingLine[str]:
    return WaitingLine(lambda name: (keys[name],), **more)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 80))
def test_it_is_a_sorted_list_behind_a_stack(seed: int, moves: int) -> None:
    random_ = random.Random(seed)
    keys: dict[str, float] = {}
    waiting, front, ordered, names = line(keys), [], [], count()
    for _ in range(moves):
        move = random_.choice(["join", "join", "join", "front", "take", "leave", "resort"])
        if move in ("join", "front"):
            name = f"r{next(names)}"
            keys[name] = random_.randint(0, 5)
            if move == "join":
                waiting.join(name, 0.0, name)
                ordered.append(name)
            else:
                waiting.join_in_front(name, name)
                front.insert(0, name)
        elif move == "take" and front + ordered:
            expected = (front + ordered)[0]
            assert waiting.first() == expected == waiting.take()
            (front if expected in front else ordered).remove(expected)
        elif move == "leave" and front + ordered:
            gone = random_.sample(front + ordered, random_.randint(1, len(front + ordered)))
            waiting.leave([*gone, "nobody"])
            front, ordered = ([n for n in names_ if n not in gone] for names_ in (front, ordered))
        elif move == "resort":
            keys.update({name: random_.randint(0, 5) for name in ordered})
            waiting.resort()
        ordered.sort(key=lambda name: (keys[name], name))
        assert list(waiting) == front + ordered
        assert len(waiting) == len(front + ordered)
    with pytest.raises(IndexError):
        line({}).first()


def test_who_fits_may_pass_a_first_one_that_does_not() -> None:
    too_large = {"a", "b"}
    keys = {name: number for number, name in enumerate("abcd")}
    waiting = line(keys, fits=lambda name: name not in too_large, backfill=2)
    for name in "abcd":
        waiting.join(name, 0.0, name)
    assert waiting.first() == "c"
    assert waiting.take() == "c"
    too_large.add("d")
    assert waiting.first() == "a"  # nobody fits: the engine finds out about the first
    too_large.remove("a")
    assert [waiting.take() for _ in range(3)] == ["a", "b", "d"]
    assert line(keys, fits=lambda name: False).first


def test_only_so_many_behind_it_are_tried() -> None:
    asked: list[str] = []

    def fits(name: str) -> bool:
        asked.append(name)
        return name == "d"

    waiting = line({name: number for number, name in enumerate("abcd")}, fits=fits, backfill=2)
    for name in "abcd":
        waiting.join(name, 0.0, name)
    assert waiting.first() == "a"
    assert asked == ["a", "b", "c"]


def test_who_fits_passes_only_when_it_may() -> None:
    asked: list[str] = []
    may = [False]

    def fits(name: str) -> bool:
        asked.append(name)
        return name == "b"

    waiting = line({"a": 0, "b": 1}, fits=fits, backfill=4, may_pass=lambda: may[0])
    for name in "ab":
        waiting.join(name, 0.0, name)
    assert waiting.first() == "a"
    assert asked == ["a"]  # nobody else is looked at in vain
    may[0] = True
    assert waiting.first() == "b"


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 6), st.booleans())
def test_nobody_is_overtaken_more_often_than_allowed(seed: int, allowed: int, backfill: bool) -> None:
    random_ = random.Random(seed)
    keys: dict[str, float] = {}
    waiting = line(
        keys,
        fits=lambda name: random_.random() < 0.5,
        backfill=4 if backfill else 0,
        max_overtaken=max(1, allowed),
    )
    inside: list[str] = []
    overtaken: dict[str, int] = {}
    for number in range(120):
        name = f"r{number:03}"
        keys[name] = random_.random()
        waiting.join(name, 0.0, name)
        inside.append(name)
        overtaken[name] = 0
        if random_.random() < 0.7:
            taken = waiting.take()
            for earlier in inside[: inside.index(taken)]:
                overtaken[earlier] += 1
            inside.remove(taken)
    assert max(overtaken.values()) <= max(1, allowed)


@pytest.mark.parametrize("size", [2**8, 2**14])
@pytest.mark.parametrize("backfill", [0, 4])
def test_joining_and_leaving_cost_log_n(size: int, backfill: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in comparisons and looks at a key: a clock would measure the machine."""
    compared, keyed = count(), count()

    def less(self: Entry[str], other: Entry[str]) -> bool:
        next(compared)
        return self.order < other.order

    def key(name: str) -> tuple[float, ...]:
        next(keyed)
        return (keys[name],)

    monkeypatch.setattr(Entry, "__lt__", less)
    random_ = random.Random(1)
    keys = {f"r{number}": random_.random() for number in range(size + 2000)}
    waiting = WaitingLine(key, lambda name: keys[name] < 0.5, backfill, max_overtaken=40)
    names = iter(keys)
    for _ in range(size):
        name = next(names)
        waiting.join(name, 0.0, name)
    before = next(compared)
    for number in range(1000):
        joined, cancelled = next(names), next(names)
        for name in (joined, cancelled):
            waiting.join(name, 0.0, name)
        waiting.leave([cancelled])
        waiting.first()
        waiting.take()
        assert len(waiting) == size, number
    a_move = (next(compared) - before) / 1000
    assert a_move <= 4 * (2 + backfill) * math.log2(size)  # 16,384 wait: a linear one compares 16,384
    assert next(keyed) == size + 2000


def test_the_pace_is_that_of_overlapping_steps_that_did_something() -> None:
    pool = PoolState()
    pace = Pace(pool)
    steps = [object() for _ in range(4)]
    pace.ended(steps[3], 0.5)  # never began: it had nothing to do
    pace.began(steps[0], 1.0)
    pace.began(steps[1], 1.0)
    pace.ended(steps[0], 1.5)
    assert pool.seconds_per_step == 0.5
    pace.ended(steps[1], 2.0)
    assert pool.seconds_per_step == 0.5  # from the end of the step before it
    pace.began(steps[2], 9.0)  # after a pause, which is no step
    pace.ended(steps[2], 10.5)
    assert pool.seconds_per_step == pytest.approx(0.5 + Pace.WEIGHT * 1.0)


def test_the_price_of_a_token_is_learnt_from_steps_with_many_prompt_tokens() -> None:
    pool = PoolState()
    pace, before = Pace(pool), pool.compute_s_per_token
    for number, (seconds, tokens) in enumerate([(0.01, 0), (0.02, 100), (0.1, 1000)]):
        step = object()
        pace.began(step, float(number), tokens)
        pace.ended(step, number + seconds)
        if tokens < Pace.MANY:
            assert pool.compute_s_per_token == before
    assert pool.compute_s_per_token == pytest.approx(before + Pace.PROMPT_WEIGHT * (1e-4 - before))
