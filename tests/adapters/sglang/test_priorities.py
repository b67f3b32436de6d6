"""An important request is not kept waiting by unimportant ones: the strategy `priority` beside SGLang's own scheduling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PLAIN = {"page_size": 1, "chunked_prefill_size": 256, "disable_overlap_schedule": True}
LOW, HIGH = 0, 100  # SGLang: the larger is the more important


def start_of_the_important_one(scheduler: Any, low: int, high: int) -> int:
    """Unimportant ones fill the memory and are retracted; the step in which an important one starts."""
    reqs = [scheduler.request(f"low{i}", [5 + i] * 30, 100, priority=low) for i in range(12)]
    important = scheduler.request("high", [400] * 60, 10, priority=high)
    arrivals = {1: reqs, 40: [important]}
    scheduler.run(lambda number: arrivals.pop(number, ()), lambda: bool(arrivals))
    assert len(scheduler.outputs) == 13 and scheduler.retracted
    return next(i for i, step in enumerate(scheduler.steps) if any(rid == "high" for rid, _ in step))


@pytest.fixture(autouse=True)
def optimistic(monkeypatch: pytest.MonkeyPatch) -> None:
    from sglang.srt.managers import schedule_policy

    monkeypatch.setattr(schedule_policy, "CLIP_MAX_NEW_TOKENS", 8)


@pytest.mark.parametrize("low_first", [False, True])
def test_no_inversion_beside_sglangs_own_priority_scheduling(
    real: Any, hooked: Callable[..., Any], low_first: bool
) -> None:
    flags = {"schedule_low_priority_values_first": low_first}
    low, high = (HIGH, LOW) if low_first else (LOW, HIGH)
    own = real(
        tokens=700, enable_priority_scheduling=True, disable_priority_preemption=True, **PLAIN, **flags
    )
    expected = start_of_the_important_one(own, low, high)
    ours = real(tokens=700, **PLAIN, **flags)
    hooked(ours, strategy="priority")
    assert start_of_the_important_one(ours, low, high) <= expected + 2


def test_an_unimportant_one_that_was_retracted_does_not_go_first(
    real: Any, hooked: Callable[..., Any]
) -> None:
    scheduler = real(tokens=700, **PLAIN)
    hooked(scheduler, strategy="priority")
    start_of_the_important_one(scheduler, LOW, HIGH)
    came = scheduler.history.index(("wait", "high"))
    started = scheduler.history.index(("start", "high"))
    between = [rid for event, rid in scheduler.history[came:started] if event == "start"]
    assert not between
