from __future__ import annotations

import math
import random

import pytest

from bidkv import BidValidationError, create_default_registry
from bidkv.owner import Owner
from bidkv.retention import RULES
from bidkv.retention.base import Retention
from bidkv.retention.returns import Returns


def rule(name: str, **params) -> Retention:
    strategy = create_default_registry().pair("fcfs", "lifo", name, retention_params=params)
    return strategy.retention


def names(policy: Retention, *owners: Owner, now: float = 100.0) -> list[int]:
    return [owner.name for owner in policy.keep_order(owners, now)]


def pause(policy: Retention, owner: Owner, begin: float, length: float | None) -> None:
    """A turn of the owner ends, and the next arrives after `length`; None: never."""
    owner.used = begin
    policy.finished(owner, 1000, 100, begin)
    if length is not None:
        policy.arrived(owner, 1100, begin + length)


@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.name)
def test_every_rule_returns_the_owners_it_was_given(cls: type[Retention]) -> None:
    owners = [Owner(n, used=float(n), turns=n % 3, tokens=16 * n, seconds=0.1 * n) for n in range(9)]
    policy = cls()
    assert sorted(names(policy, *owners)) == list(range(9))
    assert names(policy) == []
    assert cls.oracle == cls.name.endswith("_oracle") and cls.source


def test_lru_gives_up_who_was_used_longest_ago() -> None:
    assert names(rule("lru"), Owner(0, used=3.0), Owner(1, used=1.0), Owner(2, used=2.0)) == [1, 2, 0]


def test_gdsf_gives_up_who_had_few_turns_and_who_is_cheap_for_its_size() -> None:
    policy = rule("gdsf")
    often, seldom = Owner(0, turns=5, tokens=100, seconds=1.0), Owner(1, turns=1, tokens=100, seconds=1.0)
    cheap = Owner(2, turns=1, tokens=100, seconds=0.1)
    assert names(policy, often, seldom, cheap) == [2, 1, 0]


def test_gdsf_makes_those_old_that_are_not_used() -> None:
    policy = rule("gdsf")
    often = Owner(0, turns=4, tokens=100, seconds=1.0)
    assert names(policy, often, Owner(1, turns=1, tokens=100, seconds=1.0)) == [1, 0]
    for name in range(2, 6):  # each is given up and followed by another one
        owner = Owner(name, turns=1, tokens=100, seconds=1.0)
        policy.keep_order([often, owner], 0.0)
        policy.given_up(owner, 0.0)
    new = Owner(9, turns=1, tokens=100, seconds=1.0)
    assert names(policy, often, new) == [0, 9]


def test_slru_gives_up_who_never_came_back_first() -> None:
    once, twice = Owner(0, turns=1, used=9.0), Owner(1, turns=2, used=1.0)
    assert names(rule("slru"), twice, once) == [0, 1]
    assert names(rule("slru", protected=3), twice, once) == [1, 0]


def test_lfu_gives_up_who_had_fewest_turns() -> None:
    owners = Owner(0, turns=5, used=1.0), Owner(1, turns=1, used=9.0), Owner(2, turns=1, used=8.0)
    assert names(rule("lfu"), *owners) == [2, 1, 0]


def test_depth_gives_up_the_longest_chain() -> None:
    owners = Owner(0, held=160, used=1.0), Owner(1, held=320, used=9.0), Owner(2, held=320, used=8.0)
    assert names(rule("depth"), *owners) == [2, 1, 0]


def test_tlru_keeps_what_the_next_turn_may_not_compute_again() -> None:
    policy = rule("tlru", threshold=1000, next_prompt=200)
    assert [policy.kept_tokens(Owner(0, history=n)) for n in (500, 800, 5000)] == [0, 0, 4200]
    assert names(policy, Owner(0, used=2.0), Owner(1, used=1.0)) == [1, 0]


def test_ttl_given_goes_by_what_clients_say() -> None:
    soon, late = Owner(0, used=99.0, pause_s=5.0), Owner(1, used=99.0, pause_s=500.0)
    overdue, silent = Owner(2, used=50.0, pause_s=5.0), Owner(3, used=98.0)
    waits = Owner(4, used=1.0, pause_s=1.0, waiting_since=99.0)
    assert names(rule("ttl_given"), soon, late, overdue, silent, waits) == [2, 3, 1, 0, 4]
    assert names(rule("ttl_given", grace=1000.0), soon, late, overdue) == [1, 0, 2]


def test_auction_bids_less_for_who_will_not_return_in_time() -> None:
    """Half return after about 5 s, half never; memory is given up after about 10 s."""
    policy, draw = rule("auction", horizon_s=10.0), random.Random(0)
    for n in range(400):
        pause(policy, Owner(1000 + n), n * 1.0, draw.lognormvariate(math.log(5), 0.5) if n % 2 else None)
    due = Owner(0, used=496.0, tokens=100, seconds=1.0)
    dead, cheap = Owner(1, used=440.0, tokens=100, seconds=1.0), Owner(2, used=496.0, tokens=100, seconds=0.1)
    waits = Owner(3, waiting_since=499.0, tokens=100, seconds=0.1)
    assert names(policy, due, dead, cheap, waits, now=500.0) == [1, 2, 0, 3]


def test_a_chance_within_the_horizon_is_of_returns_a_second() -> None:
    """Of an exponential distribution, at any age and for any horizon, it is its rate."""
    returns, draw = Returns(enough=30, own=0.0), random.Random(2)
    assert returns.within(Owner(1, used=0.0), 1.0, 5.0) == 0.0
    for n in range(4000):
        owner = Owner(n, used=float(n))
        returns.began(owner, float(n))
        returns.ended(owner, n + draw.expovariate(0.2))
    returns.refresh(5000.0)
    for age, horizon in ((0.0, 2.0), (1.0, 10.0), (5.0, 1.0)):
        assert returns.within(Owner(1, used=0.0), age, horizon) == pytest.approx(0.2, rel=0.2)


def test_belady_gives_up_who_returns_last_and_keeps_whose_turn_waits() -> None:
    never, late, soon = Owner(0, true_next=math.inf), Owner(1, true_next=300.0), Owner(2, true_next=101.0)
    waits, waits_longer = Owner(3, waiting_since=99.0), Owner(4, waiting_since=98.0)
    assert names(rule("belady_oracle"), waits_longer, soon, late, waits, never) == [0, 1, 2, 3, 4]


def test_learned_pauses_give_up_who_will_not_return() -> None:
    """Half return after about 5 s, half never: whoever is away for a minute is the one that does not."""
    policy, draw = rule("ttl_learned"), random.Random(0)
    for n in range(400):
        pause(policy, Owner(1000 + n), n * 1.0, draw.lognormvariate(math.log(5), 0.5) if n % 2 else None)
    new, due, dead = Owner(0, used=499.9), Owner(1, used=496.0), Owner(2, used=440.0)
    assert names(policy, new, due, dead, now=500.0)[0] == 2
    assert names(policy, Owner(3, waiting_since=499.0), due, now=500.0) == [1, 3]


def test_learned_pauses_of_its_own_count() -> None:
    quick, slow = Owner(0, used=499.0, pauses=[1.0] * 8), Owner(1, used=499.0, pauses=[60.0] * 8)
    for own, order in ((4.0, [1, 0]), (0.0, [0, 1])):  # at 0 only all pauses count: equals, as they come
        policy, draw = rule("ttl_learned", own=own), random.Random(1)
        for n in range(400):
            pause(policy, Owner(1000 + n), n * 1.0, draw.lognormvariate(math.log(10), 1.0))
        assert names(policy, quick, slow, now=500.0) == order


def test_the_order_of_use_holds_until_pauses_were_seen() -> None:
    policy = rule("ttl_learned", enough=5)
    for n in range(4):
        pause(policy, Owner(10 + n), float(n), 2.0)
    assert names(policy, Owner(0, used=90.0), Owner(1, used=50.0)) == [1, 0]


def test_pauses_without_memory_have_the_same_value_at_any_age() -> None:
    """Of an exponential distribution Gittins' index is its rate."""
    returns, draw = Returns(enough=30, own=0.0), random.Random(2)
    for n in range(4000):
        owner = Owner(n, used=float(n))
        returns.began(owner, float(n))
        returns.ended(owner, n + draw.expovariate(0.2))
    returns.refresh(5000.0)
    for age in (0.0, 1.0, 5.0, 10.0):
        assert returns.value(Owner(1, used=0.0), age) == pytest.approx(0.2, rel=0.15)


def test_what_is_remembered_is_bounded() -> None:
    returns = Returns(enough=1, own=0.0, memory=50)
    for n in range(500):
        returns.began(Owner(n), float(n))
    assert len(returns._open) == 50


@pytest.mark.parametrize(
    "name, params",
    [
        ("ttl_learned", {"enough": 0}), ("ttl_learned", {"enough": True}), ("ttl_learned", {"own": -1.0}),
        ("ttl_learned", {"own": "much"}), ("ttl_learned", {"other": 1}), ("slru", {"protected": 0}),
        ("tlru", {"threshold": 1.5}), ("tlru", {"next_prompt": -1}), ("ttl_given", {"grace": -1.0}),
        ("ttl_given", {"grace": math.nan}), ("auction", {"horizon_s": 0.0}), ("auction", {"enough": "x"}), ("lfu", {"a": 1}),
    ],
)  # fmt: skip
def test_parameters_that_are_none_are_told(name: str, params: dict[str, object]) -> None:
    with pytest.raises(BidValidationError, match=next(iter(params))):
        rule(name, **params)
