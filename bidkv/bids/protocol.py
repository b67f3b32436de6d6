"""What a compression layer offers a scheduler (bids), and what the scheduler takes (an acceptance)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bidkv.errors import BidValidationError
from bidkv.utility import compute_utility


@dataclass(frozen=True)
class CompressionBid:
    """An offer to free KV cache of one request at a predicted loss.

    `tokens_freed` (r > 0) is in KV tokens; `quality_delta` (delta >= 0) is a prediction without a
    unit, not a measured loss. `confidence` says in [0, 1] how far to trust it. The solver reads only
    r, delta and the request. Raises `BidValidationError` on a value outside its range.
    """

    bid_id: str
    request_id: str
    algorithm_id: str
    tokens_freed: int
    quality_delta: float
    compress_latency_ms: float = 0.0
    confidence: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for key in ("bid_id", "request_id", "algorithm_id"):
            if not getattr(self, key):
                raise BidValidationError(f"{key} must not be empty")
        if not self.tokens_freed > 0:
            raise BidValidationError(f"bid {self.bid_id}: tokens_freed must be > 0, got {self.tokens_freed}")
        for key in ("quality_delta", "compress_latency_ms"):
            value = getattr(self, key)
            if not (value >= 0 and math.isfinite(value)):
                raise BidValidationError(f"bid {self.bid_id}: {key} must be >= 0 and finite, got {value}")
        if not 0 <= self.confidence <= 1:
            raise BidValidationError(
                f"bid {self.bid_id}: confidence must be in [0, 1], got {self.confidence}"
            )

    @property
    def utility(self) -> float:
        """U = r / (delta + epsilon): tokens freed per unit of predicted loss."""
        return compute_utility(self.tokens_freed, self.quality_delta)


@dataclass(frozen=True)
class BidPool:
    """All bids at one moment. One solve reads one pool, so its candidates cannot change under it.

    `snapshot_time_ns` is on the monotonic clock; 0 marks the empty pool of an inactive gate.
    """

    snapshot_time_ns: int
    bids: tuple[CompressionBid, ...] = ()

    def __post_init__(self) -> None:
        if self.snapshot_time_ns < 0:
            raise BidValidationError(f"snapshot_time_ns must be >= 0, got {self.snapshot_time_ns}")
        object.__setattr__(self, "bids", tuple(self.bids))
        seen: set[str] = set()
        for bid in self.bids:
            if bid.bid_id in seen:
                raise BidValidationError(f"bid_id {bid.bid_id!r} occurs twice in one pool")
            seen.add(bid.bid_id)

    def bids_for_request(self, request_id: str) -> tuple[CompressionBid, ...]:
        """The bids of one request, highest utility first; empty if it has none."""
        return _by_utility(bid for bid in self.bids if bid.request_id == request_id)

    def top_k_by_utility(self, k: int) -> tuple[CompressionBid, ...]:
        """The `k` bids of highest utility over all requests; fewer if the pool holds fewer."""
        if k < 1:
            raise BidValidationError(f"k must be >= 1, got {k}")
        return _by_utility(self.bids)[:k]

    @property
    def total_tokens_available(self) -> int:
        """KV tokens to free at most: the largest bid of each request, since one excludes the others."""
        largest: dict[str, int] = {}
        for bid in self.bids:
            largest[bid.request_id] = max(largest.get(bid.request_id, 0), bid.tokens_freed)
        return sum(largest.values())


@dataclass(frozen=True)
class BidAcceptance:
    """What one solve decided: the accepted bids in order of choice, their sums and the reason."""

    accepted_bid_ids: tuple[str, ...]
    total_tokens_freed: int
    total_quality_delta: float
    decision_reason: str

    def __post_init__(self) -> None:
        if self.total_tokens_freed < 0:
            raise BidValidationError(f"total_tokens_freed must be >= 0, got {self.total_tokens_freed}")
        if not self.total_quality_delta >= 0:
            raise BidValidationError(f"total_quality_delta must be >= 0, got {self.total_quality_delta}")
        if not self.decision_reason:
            raise BidValidationError("decision_reason must not be empty")

    @property
    def accepted_count(self) -> int:
        return len(self.accepted_bid_ids)

    @property
    def is_empty(self) -> bool:
        return not self.accepted_bid_ids


def make_bid_id(request_id: str, level: int) -> str:
    """The usual id of a request's bid at compression level number `level`, counted from 0."""
    return f"{request_id}:bid:{level}"


def _by_utility(bids: Any) -> tuple[CompressionBid, ...]:
    return tuple(sorted(bids, key=lambda bid: bid.utility, reverse=True))
