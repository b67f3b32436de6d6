"""Which strategy the others are compared with when nobody said."""

from __future__ import annotations

from collections.abc import Sequence

STOCK = ("stock", "preempt-evict", "sglang_default")  # what an engine does by itself, under its names here


def default_baseline(strategies: Sequence[str]) -> str:
    """The first of STOCK that is among `strategies` (at least one, in the sweep's order), else the first of them."""
    return next((name for name in STOCK if name in strategies), strategies[0])
