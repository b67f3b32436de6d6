from __future__ import annotations

import threading

import pytest

import bidkv
from bidkv import BidGate, BidPoolManager, BidValidationError, CompressionBid


def bid(request_id: str, level: int = 0, tokens_freed: int = 100) -> CompressionBid:
    return CompressionBid(f"{request_id}:bid:{level}", request_id, "test", tokens_freed, 0.1)


def active_pool() -> BidPoolManager:
    return BidPoolManager(BidGate(enabled=True))


def test_the_gate_is_off_by_default_and_the_kill_switch_wins() -> None:
    assert not BidGate().is_active
    assert BidGate(enabled=True).is_active
    assert not BidGate(enabled=True, kill_switch=True).is_active
    config = BidGate(enabled=True)
    config.kill_switch = True
    assert not config.is_active


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enabled", "yes"),
        ("kill_switch", 1),
        ("delta_budget", -0.1),
        ("delta_budget", float("nan")),
        ("max_bids_per_solve", -1),
        ("max_bids_per_solve", 1.5),
        ("kill_swich", True),
    ],
)
def test_the_gate_refuses_bad_values_also_later(key: str, value: object) -> None:
    config = BidGate()
    with pytest.raises(BidValidationError, match=key):
        setattr(config, key, value)
    assert config == BidGate()


def test_the_gates_former_name_is_the_same_class() -> None:
    assert bidkv.BidKVConfig is BidGate
    with pytest.raises(BidValidationError, match="BidGate has no 'enable'; allowed: enabled, kill_switch"):
        BidGate().enable = True


def test_submit_replaces_and_snapshot_sorts() -> None:
    pool = active_pool()
    pool.submit_bids("a", [bid("a", 0, 10), bid("a", 1, 30)])
    pool.submit_bids("b", [bid("b", 0, 20)])
    pool.submit_bids("a", [bid("a", 0, 5)])
    snapshot = pool.get_pool_snapshot()
    assert [b.tokens_freed for b in snapshot.bids] == [20, 5]
    assert snapshot.snapshot_time_ns > 0
    assert pool.active_request_count == 2 and pool.total_bid_count == 2
    assert pool.get_bids_for_request("a") == (bid("a", 0, 5),)


def test_a_snapshot_does_not_change_afterwards() -> None:
    pool = active_pool()
    pool.submit_bids("a", [bid("a")])
    snapshot = pool.get_pool_snapshot()
    pool.clear()
    assert snapshot.bids == (bid("a"),)


def test_remove() -> None:
    pool = active_pool()
    pool.submit_bids("a", [bid("a", 0), bid("a", 1)])
    assert pool.remove_by_request("a") == 2
    assert pool.remove_by_request("a") == 0
    pool.submit_bids("b", [bid("b")])
    pool.submit_bids("b", [])
    assert pool.active_request_count == 0


def test_bids_of_another_request_are_refused() -> None:
    with pytest.raises(BidValidationError, match="'b'"):
        active_pool().submit_bids("a", [bid("b")])


def test_an_inactive_pool_keeps_nothing() -> None:
    pool = BidPoolManager()
    pool.submit_bids("a", [bid("a")])
    assert pool.get_pool_snapshot().bids == () and pool.get_pool_snapshot().snapshot_time_ns == 0
    assert pool.total_bid_count == 0
    pool.config.enabled = True
    assert pool.total_bid_count == 0


@pytest.mark.parametrize("key", ["kill_switch", "enabled"])
def test_bids_from_before_the_switch_never_come_back(key: str) -> None:
    pool = active_pool()
    pool.submit_bids("a", [bid("a")])
    off, on = (True, False) if key == "kill_switch" else (False, True)
    setattr(pool.config, key, off)
    setattr(pool.config, key, on)  # nobody looked in between
    assert pool.config.is_active
    assert pool.get_pool_snapshot().bids == ()
    assert pool.get_bids_for_request("a") == ()


def test_the_kill_switch_wins_while_other_threads_submit() -> None:
    pool = active_pool()
    stop = threading.Event()
    errors: list[BaseException] = []

    def submit(name: str) -> None:
        try:
            while not stop.is_set():
                pool.submit_bids(name, [bid(name)])
                pool.get_pool_snapshot()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=submit, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    while pool.total_bid_count == 0:
        pass
    pool.config.kill_switch = True
    seen = [pool.get_pool_snapshot().bids for _ in range(200)]
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(bids == () for bids in seen)
    assert pool.total_bid_count == 0
