"""Nothing is kept of a request that has left: not by the adapter, not by a strategy."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bidkv.registry import create_default_registry

SEATS = 8


@pytest.fixture(scope="module")
def scheduler(tiny_model: Path) -> Iterator[Any]:
    from real_scheduler import RealScheduler

    made = RealScheduler(
        tiny_model, max_total_tokens=300, max_running_requests=SEATS, page_size=1, chunked_prefill_size=128
    )
    gc.freeze()  # only what is made from here on is looked at
    yield made
    gc.unfreeze()


REGISTRY = create_default_registry()
STRATEGIES = [name for name in REGISTRY.list_strategies() if not REGISTRY.get(name).needs_cache]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_finished_requests_are_forgotten(scheduler: Any, hooked: Callable[..., Any], strategy: str) -> None:
    """However many came: what the latest step was made of may still be there."""
    from leaks import kept_after

    adapter = hooked(scheduler, strategy=strategy)
    kept = kept_after(scheduler, adapter, 60)
    assert kept["places"] == kept["accounts"] == 0
    assert kept["states"] <= SEATS + 1 and kept["requests"] <= SEATS
    assert kept["others"] == 0
    scheduler.reset()
