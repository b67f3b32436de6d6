from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidkv import (
    BidGate,
    BidPool,
    BidValidationError,
    CompressionBid,
    GreedyBidSolver,
    PressureDetector,
)


def bid(request_id: str, level: int = 0, tokens_freed: int = 100, delta: float = 0.1) -> CompressionBid:
    return CompressionBid(f"{request_id}:bid:{level}", request_id, "test", tokens_freed, delta)


def solver(**settings) -> GreedyBidSolver:
    return GreedyBidSolver(BidGate(enabled=True, **settings))


def test_takes_highest_utility_first_and_stops_when_covered() -> None:
    pool = BidPool(1, (bid("a", 0, 200, 0.1), bid("b", 0, 150, 0.01), bid("c", 0, 10, 0.5)))
    accepted = solver().solve(pool, 300)
    assert accepted.accepted_bid_ids == ("b:bid:0", "a:bid:0")
    assert accepted.total_tokens_freed == 350
    assert accepted.total_quality_delta == pytest.approx(0.11)
    assert accepted.decision_reason == "kv_pressure"
    assert solver().solve(pool, 150).accepted_bid_ids == ("b:bid:0",)


def test_at_most_one_bid_a_request() -> None:
    pool = BidPool(1, (bid("a", 0, 100, 0.01), bid("a", 1, 200, 0.5), bid("b", 0, 50, 0.2)))
    assert solver(delta_budget=9.0).solve(pool, 10_000).accepted_bid_ids == ("a:bid:0", "b:bid:0")


def test_a_bid_over_the_budget_is_skipped_for_a_cheaper_one() -> None:
    pool = BidPool(1, (bid("a", 0, 1000, 0.5), bid("b", 0, 900, 0.6), bid("c", 0, 10, 0.05)))
    accepted = solver(delta_budget=0.6).solve(pool, 10_000)
    assert accepted.accepted_bid_ids == ("a:bid:0", "c:bid:0")
    assert solver(delta_budget=0.6).solve(pool, 10_000, delta_budget=2.0).accepted_count == 3


def test_a_budget_can_be_used_up_exactly() -> None:
    pool = BidPool(1, tuple(bid(f"r{n}", 0, 10, 0.1) for n in range(4)))
    assert solver(delta_budget=0.3).solve(pool, 100).accepted_count == 3
    free = BidPool(1, (bid("a", 0, 10, 0.0),))
    assert solver(delta_budget=0.0).solve(free, 5).accepted_count == 1


def test_max_bids_bounds_what_is_accepted_not_what_is_looked_at() -> None:
    bids = tuple(bid(f"r{n}", 0, 50, 0.01) for n in range(10)) + (bid("x", 0, 9_999, 5.0),)
    assert solver(max_bids_per_solve=2).solve(BidPool(1, bids), 500).accepted_count == 2
    too_dear_first = BidPool(1, (bid("x", 0, 10**6, 5.0), bid("a", 0, 10, 0.1)))
    assert solver(max_bids_per_solve=1).solve(too_dear_first, 5).accepted_bid_ids == ("a:bid:0",)


@pytest.mark.parametrize(
    ("settings", "needed", "bids", "reason"),
    [
        ({}, 10, (bid("a"),), "feature_off"),
        ({"enabled": True, "kill_switch": True}, 10, (bid("a"),), "kill_switch"),
        ({"kill_switch": True}, 10, (bid("a"),), "kill_switch"),
        ({"enabled": True}, 0, (bid("a"),), "no_tokens_needed"),
        ({"enabled": True}, -5, (bid("a"),), "no_tokens_needed"),
        ({"enabled": True}, 10, (), "empty_pool"),
        ({"enabled": True, "delta_budget": 0.01}, 10, (bid("a"),), "no_bid_fits"),
    ],
)
def test_why_nothing_was_accepted(settings, needed, bids, reason) -> None:
    accepted = GreedyBidSolver(BidGate(**settings)).solve(BidPool(1, bids), needed)
    assert accepted.is_empty and accepted.total_tokens_freed == 0 and accepted.decision_reason == reason


def test_default_is_off() -> None:
    assert GreedyBidSolver().solve(BidPool(1, (bid("a"),)), 10).is_empty


def test_the_kill_switch_wins_at_once_even_inside_a_solve() -> None:
    killed = solver(delta_budget=99.0)
    pool = BidPool(1, tuple(bid(f"r{n}") for n in range(3)))
    assert killed.solve(pool, 10_000).accepted_count == 3

    class Trap(BidPool):
        def top_k_by_utility(self, k):
            killed.config.kill_switch = True
            return super().top_k_by_utility(k)

    assert killed.solve(Trap(1, pool.bids), 10_000).decision_reason == "kill_switch"
    assert killed.solve(pool, 10_000).decision_reason == "kill_switch"
    killed.config.kill_switch = False
    assert killed.solve(pool, 10_000).accepted_count == 3


def test_needs_what_the_detector_says() -> None:
    detector = PressureDetector()
    detector.update_stats(90, 100)
    pool = BidPool(1, tuple(bid(f"r{n}", 0, 4, 0.1) for n in range(5)))
    assert solver().solve_with_detector(pool, detector).total_tokens_freed == 8
    detector.update_stats(10, 100)
    assert solver().solve_with_detector(pool, detector).decision_reason == "no_tokens_needed"


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(BidValidationError, match="delta_budget"):
        solver().solve(BidPool(1, (bid("a"),)), 10, delta_budget=-1.0)


@given(
    offers=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 500), st.floats(0, 2)), max_size=30),
    needed=st.integers(1, 2_000),
    budget=st.floats(0, 3),
    most=st.integers(0, 6),
)
def test_every_solution_keeps_the_bounds(offers, needed, budget, most) -> None:
    bids = tuple(bid(f"r{who}", n, tokens, delta) for n, (who, tokens, delta) in enumerate(offers))
    accepted = solver(delta_budget=budget, max_bids_per_solve=most).solve(BidPool(1, bids), needed)
    chosen = [next(b for b in bids if b.bid_id == i) for i in accepted.accepted_bid_ids]
    assert len({b.request_id for b in chosen}) == len(chosen)
    assert sum(b.quality_delta for b in chosen) <= budget * (1 + 1e-9)
    assert sum(b.tokens_freed for b in chosen) == accepted.total_tokens_freed
    assert len(chosen) <= (most or len(bids))
    assert sum(b.tokens_freed for b in chosen[:-1]) < needed
    if accepted.total_tokens_freed < needed and len(chosen) < (most or len(bids)):
        taken = {b.request_id for b in chosen}
        spent = accepted.total_quality_delta
        assert not [b for b in bids if b.request_id not in taken and spent + b.quality_delta < budget]
