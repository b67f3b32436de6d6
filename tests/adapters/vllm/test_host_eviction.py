"""What host memory gives up: exactly vLLM's own until a rule is followed, then the rule's."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed")
pytest.importorskip("vllm.v1.kv_offload.cpu.policies.factory", reason="this vLLM loads no policy but its own")
from vllm.v1.kv_offload.base import ReqContext, make_offload_key
from vllm.v1.kv_offload.cpu.manager import CPUOffloadingManager

from bidkv.adapters.shared.owners import Owners
from bidkv.adapters.vllm.memory.host_eviction import RetentionEviction
from bidkv.request import PoolState
from bidkv.retention.lfu import Lfu
from bidkv.retention.lru import Lru

PLACE = "bidkv.adapters.vllm.memory.host_eviction"


def manager(room: int, ours: bool) -> CPUOffloadingManager:
    return CPUOffloadingManager(room, *(("RetentionEviction", PLACE) if ours else ("lru",)))


def chain(name: str, length: int) -> list[bytes]:
    return [f"{name}{place:03}".encode() for place in range(length)]


def turn(host: CPUOffloadingManager, name: str, hashes: list[bytes], ends: bool = True) -> Any:
    """Stores all of a request's blocks; returns what had to leave, or None."""
    keys, context = [make_offload_key(block_hash, 0) for block_hash in hashes], ReqContext(name)
    for place, key in enumerate(keys):
        context.set_offload_key_position(key, place)
    host.on_new_request(context)
    there = [key for key in keys if host.lookup(key, context).name == "HIT"]
    host.prepare_load(there, context)
    stored = host.prepare_store(keys, context)
    host.complete_load(there, context)
    if stored is not None and ends:
        host.complete_store(stored.keys_to_store, context)
    host.on_request_finished(context)
    return None if stored is None else stored.evicted_keys


@pytest.mark.parametrize("seed", range(5))
def test_without_a_rule_the_same_blocks_leave_as_under_vllms_own(seed: int) -> None:
    draw, hosts = Random(seed), [manager(40, ours) for ours in (False, True)]
    left = 0
    for step in range(300):
        hashes, ends = chain(f"c{draw.randrange(12)}-", draw.randint(1, 12)), draw.random() < 0.97
        stock, ours = (turn(host, f"r{step}", hashes, ends) for host in hosts)
        assert stock == ours
        left += len(stock or ())
    assert left > 300


class Followed:
    """Host memory whose owners are known."""

    def __init__(self, room: int, rule: Any):
        self.host = manager(room, True)
        self.policy: RetentionEviction = self.host._policy
        self.owners = Owners(rule, PoolState(), 16, self.policy.look, in_flight=True)
        self.errors: list[Exception] = []
        self.now = 0.0
        self.policy.follow(self.owners, lambda: self.now, self.errors.append)

    def turn(self, name: str, hashes: list[bytes]) -> list[bytes]:
        self.now += 1
        self.owners.arrived(name, hashes, None, 16 * len(hashes), self.now)
        self.owners.started(name, 0, 16 * len(hashes))
        left = turn(self.host, name, hashes)
        self.owners.ended(name, hashes, hashes[:], 16 * len(hashes), 0, self.now)
        return [key[:-4] for key in left]


def test_the_order_of_use_as_a_rule_is_vllms_own() -> None:
    draw, followed, stock = Random(1), Followed(40, Lru()), manager(40, False)
    left = 0
    for step in range(200):
        hashes = chain(f"c{draw.randrange(12)}-", draw.randint(1, 12))
        ours = followed.turn(f"r{step}", hashes)
        assert ours == [key[:-4] for key in turn(stock, f"r{step}", hashes)]
        left += len(ours)
    assert left > 200 and not followed.errors


def test_a_rule_keeps_whom_it_says() -> None:
    followed = Followed(12, Lfu())
    for number in range(3):
        followed.turn(f"often{number}", chain("often", 4))
    followed.turn("once", chain("once", 4))
    assert followed.turn("new", chain("new", 6)) == chain("once", 4)[:1:-1]
    assert followed.turn("newer", chain("newer", 2)) == chain("once", 4)[1::-1]
    assert not followed.errors


def test_a_copy_on_its_way_stays_its_owners() -> None:
    followed = Followed(12, Lfu())
    for number in range(3):
        followed.turn(f"often{number}", chain("often", 4))
    followed.turn("once", chain("once", 4))
    last = make_offload_key(chain("once", 4)[-1], 0)
    followed.host.prepare_load([last], ReqContext("loads"))  # pinned: it cannot leave now
    assert chain("once", 4)[-1] not in followed.turn("new", chain("new", 5))
    followed.host.complete_load([last], ReqContext("loads"))
    assert followed.turn("newer", chain("newer", 4)) == chain("once", 4)[::-1]
    assert not followed.errors


def test_a_rule_that_fails_leaves_all_to_vllm() -> None:
    followed = Followed(8, Lru())
    followed.turn("one", chain("one", 8))
    followed.owners.policy.keep_order = None  # type: ignore[assignment]
    assert followed.turn("two", chain("two", 3)) == chain("one", 8)[:4:-1]
    assert [type(error) for error in followed.errors] == [TypeError]


def test_what_cannot_leave_is_not_asked_for() -> None:
    followed = Followed(4, Lru())
    turn(followed.host, "stores still", chain("a", 3), ends=False)
    before = dict(followed.policy.chunks)
    assert turn(followed.host, "too many", chain("b", 2)) is None and dict(followed.policy.chunks) == before
