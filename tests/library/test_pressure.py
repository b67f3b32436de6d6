from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidkv import BidGate, BidValidationError, PressureConfig, PressureDetector


@pytest.mark.parametrize(("used", "needed"), [(0, 0), (84, 0), (85, 1), (100, 16)])
def test_pressure_begins_at_the_threshold(used: int, needed: int) -> None:
    detector = PressureDetector(PressureConfig(threshold=0.85))
    detector.update_stats(used, 100)
    assert detector.is_under_pressure() == (needed > 0)
    assert detector.needed_tokens() == needed


def test_urgent_requests_need_free_tokens() -> None:
    detector = PressureDetector(PressureConfig(threshold=0.85, min_free_tokens=512))
    detector.update_stats(1_600, 2_000)
    assert not detector.is_under_pressure()
    detector.update_stats(1_600, 2_000, pending_high_priority=1)
    assert detector.needed_tokens() == 112


def test_nothing_is_smoothed() -> None:
    detector = PressureDetector()
    detector.update_stats(1_000, 1_000)
    assert detector.is_under_pressure()
    detector.update_stats(1, 1_000)
    assert not detector.is_under_pressure()


def test_an_inactive_gate_means_no_pressure() -> None:
    gate = BidGate(enabled=True)
    detector = PressureDetector(gate=gate)
    detector.update_stats(100, 100)
    assert detector.needed_tokens() == 16
    gate.kill_switch = True
    assert detector.needed_tokens() == 0 and not detector.is_under_pressure()


@given(
    threshold=st.floats(0.01, 1.0),
    size=st.integers(1, 10**6),
    share=st.floats(0, 1),
    urgent=st.integers(0, 2),
    min_free=st.integers(0, 2_000),
)
def test_freeing_what_is_needed_ends_the_pressure_and_one_less_does_not(
    threshold, size, share, urgent, min_free
):
    used = int(size * share)
    detector = PressureDetector(PressureConfig(threshold, min_free))
    detector.update_stats(used, size, urgent)
    needed = detector.needed_tokens()
    assert 0 <= needed <= used
    if needed:
        detector.update_stats(used - needed + 1, size, urgent)
        assert detector.is_under_pressure()
    detector.update_stats(used - needed, size, urgent)
    assert not detector.is_under_pressure()


def test_bad_values_are_refused() -> None:
    for bad in ({"threshold": 0.0}, {"threshold": 1.1}, {"min_free_tokens": -1}):
        with pytest.raises(BidValidationError, match=next(iter(bad))):
            PressureConfig(**bad)
    detector = PressureDetector()
    for stats in ((-1, 10), (1, -1), (11, 10), (1, 10, -1)):
        with pytest.raises(BidValidationError):
            detector.update_stats(*stats)
    assert detector.needed_tokens() == 0
