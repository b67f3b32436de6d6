"""The bids of all live requests, from which schedulers take snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from bidkv.bids.gate import BidGate
from bidkv.bids.protocol import BidPool, CompressionBid
from bidkv.errors import BidValidationError


class BidPoolManager:
    """Collects bids from any thread. While the gate is inactive it keeps and shows nothing.

    Bids collected before the gate was switched off are never shown again, even if it is switched on
    before anyone looked.
    """

    def __init__(self, config: BidGate | None = None):
        self.config = config or BidGate()
        self._bids: dict[str, tuple[CompressionBid, ...]] = {}
        self._lock = threading.Lock()
        self._switched_off = self.config.switched_off

    def submit_bids(self, request_id: str, bids: Iterable[CompressionBid]) -> None:
        """Replaces all bids of a request; raises `BidValidationError` if one belongs to another."""
        bids = tuple(bids)
        for bid in bids:
            if bid.request_id != request_id:
                raise BidValidationError(
                    f"bid {bid.bid_id!r} is for {bid.request_id!r}, not for {request_id!r}"
                )
        with self._lock:
            live = self._live()
            if self.config.is_active and bids:
                live[request_id] = bids
            else:
                live.pop(request_id, None)

    def get_pool_snapshot(self) -> BidPool:
        """All bids now, most tokens first; the empty pool with time 0 while the gate is inactive."""
        with self._lock:
            bids = [bid for own in self._live().values() for bid in own]
        if not self.config.is_active:
            return BidPool(snapshot_time_ns=0)
        bids.sort(key=lambda bid: bid.tokens_freed, reverse=True)
        return BidPool(snapshot_time_ns=time.monotonic_ns(), bids=tuple(bids))

    def get_bids_for_request(self, request_id: str) -> tuple[CompressionBid, ...]:
        """The bids of a request as submitted; empty if it has none."""
        with self._lock:
            return self._live().get(request_id, ())

    def remove_by_request(self, request_id: str) -> int:
        """Forgets a request that finished or changed; returns how many bids it had."""
        with self._lock:
            return len(self._live().pop(request_id, ()))

    def clear(self) -> None:
        with self._lock:
            self._bids.clear()

    @property
    def active_request_count(self) -> int:
        with self._lock:
            return len(self._live())

    @property
    def total_bid_count(self) -> int:
        with self._lock:
            return sum(map(len, self._live().values()))

    def _live(self) -> dict[str, tuple[CompressionBid, ...]]:
        """The store, emptied first if the gate is or was off since the last look. Needs the lock."""
        if not self.config.is_active or self._switched_off != self.config.switched_off:
            self._switched_off = self.config.switched_off
            self._bids.clear()
        return self._bids
