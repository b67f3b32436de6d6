"""Owners of cached blocks without an engine: a block is a list of its content and of whether it is idle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bidkv.adapters.shared.owners import Owners
from bidkv.errors import BidValidationError
from bidkv.owner import Owner
from bidkv.request import PoolState
from bidkv.retention.base import Retention
from bidkv.retention.lru import Lru

SIZE = 16


class Cache:
    """Owners under a rule, and the blocks of each content."""

    def __init__(self, policy: Retention | None = None):
        self.owners = Owners(policy or Lru(), PoolState(), SIZE, self._look)
        self.content: dict[str, bytes] = {}
        self.busy: set[str] = set()

    def _look(self, block: str, content: bytes) -> bool | None:
        return None if self.content.get(block) != content else block not in self.busy

    def turn(self, request: str, chain: str, now: float, prompt: int = 0, session: str | None = None) -> None:
        """A request whose tokens are the chain's letters, a block each, arrives, runs and ends."""
        hashes = [chain[: i + 1].encode() for i in range(len(chain))]
        blocks = [f"block {h.decode()}" for h in hashes]
        self.owners.arrived(request, hashes, session, prompt or len(chain) * SIZE, now)
        self.owners.started(request, 0, prompt)
        self.content |= dict(zip(blocks, hashes, strict=True))
        self.owners.ended(request, hashes, blocks, prompt or len(chain) * SIZE, SIZE, now)

    def take(self, count: int, now: float = 100.0) -> list[str]:
        taken = self.owners.take(count, now)
        for block in taken:
            del self.content[block]
        return [block.removeprefix("block ") for block in taken]


def test_the_last_blocks_of_who_was_used_first_go_first() -> None:
    cache = Cache()
    cache.turn("one", "abc", 1.0)
    cache.turn("two", "xyz", 2.0)
    assert cache.take(2) == ["abc", "ab"]
    assert cache.take(3) == ["a", "xyz", "xy"]
    assert cache.take(9) == ["x"] and cache.take(1) == []
    assert not cache.owners.tracked


class KeepTwo(Lru):
    """Owners keep two blocks until it is their turn."""

    def kept_tokens(self, owner: Owner) -> int:
        return 2 * SIZE


def test_what_owners_need_not_keep_goes_before_all_that_they_keep() -> None:
    cache = Cache(KeepTwo())
    cache.turn("one", "abcd", 1.0)
    cache.turn("two", "xyz", 2.0)
    assert cache.take(1) == ["abcd"]
    assert cache.take(3) == ["abc", "xyz", "ab"]
    assert cache.take(9) == ["a", "xy", "x"] and not cache.owners.tracked


def test_who_rests_is_told_with_what_the_engine_has_left_of_it() -> None:
    cache = Cache()
    cache.turn("one", "sabc", 1.0)
    cache.turn("two", "sxy", 2.0)
    assert [(owner.used, owner.tokens) for owner in cache.owners.resting()] == [
        (2.0, 2 * SIZE),
        (1.0, 4 * SIZE),  # when its turn ended the common beginning was its own
    ]
    del cache.content["block sabc"], cache.content["block sab"]  # the engine gave them to somebody
    assert [owner.tokens for owner in cache.owners.resting()] == [2 * SIZE, SIZE]
    cache.owners.arrived("next", [b"s", b"sx", b"sxy", b"sxyz"], None, 4 * SIZE, 3.0)
    assert [owner.used for owner in cache.owners.resting()] == [1.0]
    cache.content.clear()
    assert [*cache.owners.resting()] == []


def test_owners_of_whom_the_engine_kept_nothing_are_forgotten_without_being_asked() -> None:
    cache = Cache()
    for number in range(200):
        cache.content.clear()  # what came before is given up
        cache.turn(f"r{number}", chr(300 + number) + "ab", float(number))
    assert len(cache.owners._idle) < 10


def test_a_common_beginning_goes_with_the_last_that_has_it() -> None:
    cache = Cache()
    cache.turn("one", "sab", 1.0)
    cache.turn("two", "sxy", 2.0)
    assert cache.take(5) == ["sab", "sa", "sxy", "sx", "s"]


def test_a_next_turn_is_found_by_its_blocks_and_makes_no_second_owner() -> None:
    cache = Cache()
    cache.turn("one", "ab", 1.0, session="chat")
    cache.turn("other", "xy", 2.0)
    cache.turn("two", "abcd", 7.0)
    (owner,) = [owner for owner in cache.owners._idle.values() if owner.session == "chat"]
    assert (owner.turns, owner.pauses) == (2, [6.0])
    assert cache.take(3) == ["xy", "x", "abcd"]


def test_a_next_turn_is_found_where_the_answer_was_left_out() -> None:
    cache = Cache()
    cache.turn("one", "abc", 1.0, prompt=2 * SIZE)
    cache.turn("two", "abxy", 2.0)
    (owner,) = cache.owners._idle.values()
    assert owner.turns == 2 and owner.length == 4
    assert cache.take(9) == ["abxy", "abx", "ab", "a"]


def test_an_answer_that_was_left_out_is_of_nobody_once_the_next_turn_is_there() -> None:
    cache = Cache()
    cache.turn("one", "abc", 1.0, prompt=2 * SIZE)
    assert b"abc" in cache.owners.holders
    cache.owners.arrived("two", [b"a", b"ab", b"abx"], None, 3 * SIZE, 2.0)
    assert set(cache.owners.holders) == {b"a", b"ab"}


def test_blocks_with_a_request_on_them_are_not_taken() -> None:
    cache = Cache()
    cache.turn("one", "abc", 1.0)
    cache.busy |= {"block a", "block ab"}
    assert cache.take(3) == ["abc"]


def test_blocks_that_have_another_content_by_now_are_passed_over() -> None:
    cache = Cache()
    cache.turn("one", "abc", 1.0)
    cache.content["block ab"] = b"another"
    assert cache.take(3) == ["abc", "a"]


def test_whose_turn_runs_is_not_asked_for_and_who_waits_is() -> None:
    cache = Cache()
    cache.turn("one", "ab", 1.0)
    cache.owners.arrived("two", [b"a", b"ab", b"abc"], None, 3 * SIZE, 5.0)
    (owner,) = cache.owners._idle.values()
    assert owner.waiting_since == 5.0
    cache.owners.started("two", 2 * SIZE, 3 * SIZE)
    assert cache.take(1) == []
    cache.owners.preempted("two", [b"a", b"ab"], ["block a", "block ab"], 6.0)
    assert owner.waiting_since == 6.0 and cache.take(1) == ["ab"]


def test_whose_blocks_are_gone_is_seen_to_return() -> None:
    cache = Cache()
    cache.turn("one", "ab", 1.0)
    cache.take(2)
    cache.turn("two", "abc", 9.0)
    (owner,) = cache.owners._idle.values()
    assert (owner.turns, owner.pauses, owner.length) == (2, [8.0], 3)


def test_a_request_that_never_started_leaves_nothing() -> None:
    cache = Cache()
    cache.owners.arrived("one", [b"a"], None, SIZE, 1.0)
    cache.owners.ended("one", [b"a"], [], SIZE, 0, 2.0)
    assert not cache.owners.tracked


class Forgetful(Lru):
    name = "forgetful"

    def keep_order(self, idle: list[Owner], now: float) -> list[Owner]:
        return []


def test_an_order_without_all_owners_is_refused() -> None:
    cache = Cache(Forgetful())
    cache.turn("one", "ab", 1.0)
    with pytest.raises(BidValidationError, match="forgetful: keep_order"):
        cache.take(1)


class Dearest(Lru):
    """Who costs least to get back goes first."""

    weighs_cost = True

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: owner.seconds)


def test_a_return_costs_a_load_as_far_as_host_memory_has_copies() -> None:
    cache, copied = Cache(Dearest()), {"abc": 3, "xyz": 1}
    chains = {b"abc": "abc", b"xyz": "xyz"}
    cache.owners._copies = lambda hashes, length, known: copied[chains[hashes[-1]]]
    cache.owners._pool.compute_s_per_token, cache.owners._pool.load_s_per_token = 1.0, 0.25
    cache.turn("one", "xyz", 1.0)
    cache.turn("two", "abc", 2.0)
    assert cache.take(1) == ["abc"], "used last, and loaded back for a quarter"
    seen = {owner.used: (owner.copied, owner.seconds) for owner in cache.owners.resting()}
    assert seen[1.0] == (SIZE, 2 * SIZE + SIZE / 4) and seen[2.0] == (3 * SIZE, 3 * SIZE / 4)


def test_a_rule_that_asks_no_price_gives_up_first_what_has_copies() -> None:
    cache = Cache(Lru())
    cache.owners._copies = lambda hashes, length, known: length if hashes[0] == b"a" else length - 1
    cache.turn("one", "xyz", 1.0)
    cache.turn("two", "abc", 2.0)
    cache.turn("three", "uvw", 3.0)
    assert cache.take(4) == ["abc", "ab", "a", "xyz"]
