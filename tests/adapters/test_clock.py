"""Setting the wall clock moves no deadline of an adapter."""

from __future__ import annotations

import time

import pytest

from bidkv.adapters.shared.clock import steadied, steady_time


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_it_goes_on_as_before_when_the_wall_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    before, wall = steady_time(), time.time
    assert abs(before - wall()) < 60  # seconds since the epoch, as of the start
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert 0 <= steady_time() - before < 60


@pytest.mark.parametrize("jump", [-3600.0, -5.0, 5.0, 3600.0])
def test_what_the_wall_clock_says_after_it_was_set_is_taken_back_to_the_steady_one(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    assert steadied(1000.0) == 1000.0, "as it is, to the last digit, while nobody sets it"
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert steadied(time.time()) == pytest.approx(steady_time(), abs=0.05)
