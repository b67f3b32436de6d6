from __future__ import annotations

import dataclasses

import pytest

from bidkv import BidAcceptance, BidKVError, BidPool, BidValidationError, CompressionBid, make_bid_id


def bid(request_id: str = "a", level: int = 0, tokens_freed: int = 100, quality_delta: float = 0.1, **more):
    return CompressionBid(
        make_bid_id(request_id, level), request_id, "test", tokens_freed, quality_delta, **more
    )


def test_utility_is_tokens_per_delta() -> None:
    assert bid(tokens_freed=100, quality_delta=0.099).utility == pytest.approx(1000.0)
    assert bid(tokens_freed=100, quality_delta=0.0).utility == pytest.approx(100_000.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens_freed", 0),
        ("tokens_freed", -3),
        ("quality_delta", -0.01),
        ("quality_delta", float("nan")),
        ("quality_delta", float("inf")),
        ("compress_latency_ms", -1.0),
        ("confidence", 1.01),
        ("confidence", -0.01),
        ("confidence", float("nan")),
        ("bid_id", ""),
        ("request_id", ""),
        ("algorithm_id", ""),
    ],
)
def test_bid_refuses_values_out_of_range(key: str, value: object) -> None:
    with pytest.raises(BidValidationError, match=key) as caught:
        dataclasses.replace(bid(), **{key: value})
    assert isinstance(caught.value, BidKVError) and isinstance(caught.value, ValueError)


def test_a_delta_above_one_is_allowed() -> None:
    assert bid(quality_delta=2.5).utility == pytest.approx(100 / 2.501)


def test_bids_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        bid().tokens_freed = 5  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        BidPool(1, (bid(),)).bids = ()  # type: ignore[misc]


def test_pool_queries() -> None:
    small, large, other = bid("a", 0, 100, 0.1), bid("a", 1, 200, 0.9), bid("b", 0, 50, 0.01)
    pool = BidPool(1, [large, small, other])  # type: ignore[arg-type]
    assert pool.bids == (large, small, other)
    assert pool.bids_for_request("a") == (small, large)
    assert pool.bids_for_request("nobody") == ()
    assert pool.top_k_by_utility(1) == (other,)
    assert pool.top_k_by_utility(99) == (other, small, large)


def test_available_tokens_count_one_bid_a_request() -> None:
    pool = BidPool(1, (bid("a", 0, 100), bid("a", 1, 200), bid("b", 0, 50)))
    assert pool.total_tokens_available == 250
    assert BidPool(1).total_tokens_available == 0


def test_pool_refuses_bad_input() -> None:
    with pytest.raises(BidValidationError, match="snapshot_time_ns"):
        BidPool(-1)
    with pytest.raises(BidValidationError, match="twice"):
        BidPool(1, (bid(), bid()))
    with pytest.raises(BidValidationError, match="k must be >= 1, got 0"):
        BidPool(1).top_k_by_utility(0)


def test_acceptance() -> None:
    assert BidAcceptance((), 0, 0.0, "empty_pool").is_empty
    assert BidAcceptance(("x", "y"), 10, 0.5, "kv_pressure").accepted_count == 2
    for bad in [((), -1, 0.0, "r"), ((), 0, -0.1, "r"), ((), 0, 0.0, "")]:
        with pytest.raises(BidValidationError):
            BidAcceptance(*bad)
