from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidkv.adapters.shared.pace import Pace
from bidkv.adapters.shared.tickets import Tickets
from bidkv.adapters.shared.waiting import LineRules, WaitingLine
from bidkv.request import PoolState


class Line(WaitingLine[str]):
    """A line with tickets of its own, in which whoever is taken starts unless it is put back."""

    def __init__(self, keys: dict[str, float], **more: Any):
        rules = {
            name: more.pop(name) for name in ("preempted_first", "backfill", "max_overtaken") if name in more
        }
        self.tickets: Tickets[str] = Tickets()
        self.skipped: set[str] = set()
        more = {"runs": lambda name: name not in self.skipped, **more}
        super().__init__(self.tickets, lambda name: (keys[name],), LineRules(**rules), **more)

    def join(self, name: str) -> None:
        self.enter(self.tickets.issue(name, name))

    def join_in_front(self, name: str) -> None:
        self.enter(self.tickets.preempted(name, name))

    def start(self) -> str:
        name = self.take()
        self.settle()
        return name


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 80))
def test_it_is_a_sorted_list_behind_a_stack(seed: int, moves: int) -> None:
    random_ = random.Random(seed)
    keys: dict[str, float] = {}
    waiting, front, ordered, running, names = Line(keys), [], [], [], count()
    for _ in range(moves):
        move = random_.choice(["join", "join", "join", "front", "take", "skip", "leave", "resort", "rebuild"])
        if move == "join":
            name = f"r{next(names):03}"
            keys[name] = random_.randint(0, 5)
            waiting.join(name)
            ordered.append(name)
        elif move == "front" and running:
            name = running.pop(random_.randrange(len(running)))
            waiting.join_in_front(name)
            front.insert(0, name)
        elif move in ("take", "skip") and front + ordered:
            expected = (front + ordered)[0]
            if move == "skip":
                waiting.skipped.add(expected)
            assert waiting.first() == expected == waiting.take()
            waiting.settle()
            if move == "skip":  # the engine puts it back: it stands where it stood
                waiting.skipped.remove(expected)
                waiting.enter(waiting.tickets.get(expected))
            else:
                (front if expected in front else ordered).remove(expected)
                running.append(expected)
        elif move == "leave" and front + ordered:
            gone = random_.sample(front + ordered, random_.randint(1, len(front + ordered)))
            waiting.leave([*gone, "nobody"])
            for name in gone:
                waiting.tickets.left(name)
            front, ordered = ([n for n in names_ if n not in gone] for names_ in (front, ordered))
        elif move == "resort":
            keys.update({name: random_.randint(0, 5) for name in ordered})
            waiting.resort()
        elif move == "rebuild":  # another strategy and back, or the kill switch: tickets stay
            tickets, waiting = waiting.tickets, Line(keys)
            waiting._tickets = waiting.tickets = tickets
            for name in random_.sample(front + ordered, len(front + ordered)):
                waiting.enter(tickets.get(name))
        ordered.sort(key=lambda name: (keys[name], name))
        assert list(waiting) == front + ordered
        assert len(waiting) == len(front + ordered)
    with pytest.raises(IndexError):
        Line({}).first()


def test_who_fits_may_pass_a_first_one_that_does_not() -> None:
    too_large = {"a", "b"}
    keys = {name: number for number, name in enumerate("abcd")}
    waiting = Line(keys, fits=lambda name: name not in too_large, backfill=2)
    for name in "abcd":
        waiting.join(name)
    assert waiting.first() == "c"
    assert waiting.passed.name == "a"
    assert waiting.start() == "c"
    too_large.add("d")
    assert waiting.first() == "a"  # nobody fits: the engine finds out about the first
    assert waiting.passed is None
    too_large.remove("a")
    assert [waiting.start() for _ in range(3)] == ["a", "b", "d"]


def test_a_preempted_first_one_may_be_passed_too() -> None:
    keys = {name: number for number, name in enumerate("abc")}
    waiting = Line(keys, fits=lambda name: name != "a", backfill=2, max_overtaken=1)
    for name in "abc":
        waiting.join(name)
    waiting._fits = lambda name: True
    assert waiting.start() == "a"
    waiting.join_in_front("a")
    waiting._fits = lambda name: name != "a"
    assert waiting.start() == "b"
    assert [*waiting.tickets.overtook(waiting.tickets.get("a"))] == ["b"]
    assert waiting.first() == "a"  # it was overtaken as often as is allowed


def test_one_that_the_engine_skips_for_good_keeps_nobody_from_passing() -> None:
    keys = {f"r{number:02}": number for number in range(60)}
    waiting = Line(keys, fits=lambda name: name != "r01", backfill=4, max_overtaken=40)
    waiting.ready_names = set(keys) - {"r00"}
    waiting._ready = lambda name: name in waiting.ready_names
    for name in keys:
        waiting.join(name)
    started = []
    for _ in range(50):  # steps
        assert waiting.take() == "r00"  # shown to the engine, which skips it
        waiting.skipped.add("r00")
        waiting.settle()
        name = waiting.take()
        if name == "r01":
            waiting.skipped.add(name)
        waiting.settle()
        waiting.skipped.clear()
        for back in {"r00", name} & {"r00", "r01"}:
            waiting.enter(waiting.tickets.get(back))
        started += [name] if name != "r01" else []
    assert len(started) == 40  # as many as may overtake r01


def test_only_so_many_behind_it_are_tried() -> None:
    asked: list[str] = []

    def fits(name: str) -> bool:
        asked.append(name)
        return name == "d"

    waiting = Line({name: number for number, name in enumerate("abcd")}, fits=fits, backfill=2)
    for name in "abcd":
        waiting.join(name)
    assert waiting.first() == "a"
    assert asked == ["a", "b", "c"]


def test_who_fits_passes_only_when_it_may() -> None:
    asked: list[str] = []
    may = [False]

    def fits(name: str) -> bool:
        asked.append(name)
        return name == "b"

    waiting = Line({"a": 0, "b": 1}, fits=fits, backfill=4, may_pass=lambda first: may[0])
    for name in "ab":
        waiting.join(name)
    assert waiting.first() == "a"
    assert asked == ["a"]  # nobody else is looked at in vain
    may[0] = True
    assert waiting.first() == "b"


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 6), st.booleans())
def test_nobody_is_overtaken_more_often_than_allowed(seed: int, allowed: int, backfill: bool) -> None:
    random_ = random.Random(seed)
    keys: dict[str, float] = {}
    rules = {"backfill": 4 if backfill else 0, "max_overtaken": max(1, allowed)}
    waiting = Line(keys, fits=lambda name: random_.random() < 0.5, **rules)
    inside: list[str] = []
    overtaken: dict[str, int] = {}
    for number in range(120):
        name = f"r{number:03}"
        keys[name] = random_.random()
        waiting.join(name)
        inside.append(name)
        overtaken[name] = 0
        if random_.random() < 0.2:  # the engine skips it and puts it back
            skipped = waiting.take()
            waiting.skipped.add(skipped)
            waiting.settle()
            waiting.skipped.remove(skipped)
            waiting.enter(waiting.tickets.get(skipped))
        if random_.random() < 0.7:
            taken = waiting.start()
            for earlier in inside[: inside.index(taken)]:
                overtaken[earlier] += 1
            inside.remove(taken)
        if random_.random() < 0.1:  # another strategy and back
            tickets = waiting.tickets
            waiting = Line(keys, fits=lambda name: random_.random() < 0.5, **rules)
            waiting._tickets = waiting.tickets = tickets
            tickets.limit, tickets.reached = rules["max_overtaken"], waiting._reached
            for one in inside:
                waiting.enter(tickets.get(one))
        assert {name: tickets_.overtaken for name in inside if (tickets_ := waiting.tickets.get(name))} == {
            name: overtaken[name] for name in inside
        }
    assert max(overtaken.values()) <= max(1, allowed)


def test_nothing_is_kept_of_those_that_left() -> None:
    keys = {f"r{number}": float(number % 7) for number in range(3000)}
    waiting = Line(keys, fits=lambda name: keys[name] != 3, backfill=8)
    for number, name in enumerate(keys):
        waiting.join(name)
        if number % 3:
            waiting.tickets.left(waiting.start())
    while len(waiting):
        waiting.tickets.left(waiting.start())
    assert waiting.tickets.held == 0
    assert not waiting._order and not waiting._places and not waiting._overdue


@pytest.mark.parametrize("size", [2**8, 2**14])
def test_a_start_in_order_of_arrival_looks_at_nobody_else(size: int) -> None:
    """Counted in looks at a key: a clock would measure the machine."""
    keyed = count()

    class Keys(dict[str, float]):
        def __getitem__(self, name: str) -> float:
            next(keyed)
            return super().__getitem__(name)

    keys = Keys({f"r{number:06}": float(number) for number in range(size + 1000)})
    waiting = Line(keys, max_overtaken=40, backfill=4)
    names = iter(keys)
    for _ in range(size):
        waiting.join(next(names))
    for _ in range(1000):
        waiting.join(next(names))
        waiting.start()
    assert next(keyed) == size + 1000  # each was asked for its key once
    assert not waiting.tickets.passers


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


@given(st.integers(0, 10**6), st.integers(0, 4))
def test_asking_a_few_keys_at_a_time_comes_to_the_same_order(seed: int, backfill: int) -> None:
    random_ = random.Random(seed)
    names = [f"r{number:02}" for number in range(random_.randint(1, 40))]
    keys = {name: random_.randint(0, 9) for name in names}
    waiting = Line(keys, backfill=backfill)
    for name in names:
        waiting.join(name)
    keys.update({name: random_.randint(0, 9) for name in names})
    gone = random_.choice(names)
    asked = waiting.resort(3)
    waiting.leave([gone])
    for _ in range(2 * len(names) // 3 + 2):  # in turn: at worst the second round begins anew
        asked = max(asked, waiting.resort(3))
    assert asked <= 3 + 1 + backfill
    assert list(waiting) == sorted(set(names) - {gone}, key=lambda name: (keys[name], name))
