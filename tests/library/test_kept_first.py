"""Admission by what is cached, without an engine."""

from __future__ import annotations

import pytest

from bidkv import BidValidationError, RequestState, create_default_registry
from bidkv.admission.kept_first import KeptFirst
from bidkv.owner import Owner
from bidkv.request import FinishedRequest, PoolState

PRICE = 0.001  # seconds a token


def policy(*resting: Owner, hold: object = 1.0, **params: object) -> KeptFirst:
    made = create_default_registry().get("kept-first", admission_params={"hold": hold, **params}).admission
    made.pool = PoolState(compute_s_per_token=PRICE)
    made.resting = lambda: resting
    for number in range(8):
        made.arrived(RequestState(f"one of eight {number}", 0, 100), 0.0)
    return made


def waiting(name: str, prompt: int, cached: int, arrival: float) -> RequestState:
    return RequestState(name, 0, prompt, arrival=arrival, cached_tokens=cached)


def runs(prompt: int, computed: int) -> RequestState:
    return RequestState("runs", computed, prompt)


def admits(
    made: KeptFirst, request: RequestState, *running: RequestState, now: float, free: int, needed: int
) -> bool:
    made.pool.now, made.pool.free_tokens, made.pool.needed_tokens = now, free, needed
    return made.admits(request, running, made.pool)


def test_who_is_mostly_cached_goes_first_and_all_others_in_order_of_arrival() -> None:
    made = policy()
    requests = [
        waiting("new", 1000, 0, 1.0),
        waiting("lost", 1000, 400, 2.0),
        waiting("kept", 1000, 600, 3.0),
    ]
    for now, expected in (
        (3.0, "kept new lost"),
        (9.0, "new lost kept"),
    ):  # by then all were held for long
        order = sorted(requests, key=lambda request: made.key(request, now))
        assert " ".join(request.request_id for request in order) == expected


def test_with_host_memory_all_go_in_order_of_arrival_and_nobody_is_held_back() -> None:
    made = policy(Owner(0, used=10.0, tokens=1000))
    made.pool.host_memory = True
    requests = [waiting("new", 1000, 0, 1.0), waiting("kept", 1000, 600, 3.0)]
    assert sorted(requests, key=lambda request: made.key(request, 3.0)) == requests
    assert admits(made, waiting("new", 500, 0, 12.0), runs(100, 0), now=12.0, free=500, needed=500)


def test_a_request_waits_for_memory_that_resting_sessions_are_about_to_use() -> None:
    """Resting: 1,000 tokens, worth 1 s; kept for 4 s after their turn. The request computes 500 tokens: held for 4 s."""
    rests, request = Owner(0, used=10.0, tokens=1000), waiting("new", 500, 0, 12.0)
    made, busy = policy(rests), runs(100, 0)
    assert not admits(
        made, request, busy, now=12.0, free=1500, needed=500
    )  # 100 more are still to be computed
    assert admits(made, request, busy, now=12.0, free=1600, needed=500)
    assert admits(made, request, busy, now=14.1, free=500, needed=500)  # they paused for too long
    rests.used = 16.0
    assert not admits(made, request, busy, now=15.9, free=500, needed=500)
    assert admits(made, request, busy, now=16.0, free=500, needed=500)  # it was held for long enough


def test_nobody_is_held_back_from_a_device_that_has_no_prompt_to_compute() -> None:
    rests, request = Owner(0, used=10.0, tokens=1000), waiting("new", 500, 0, 10.0)
    decodes = runs(100, 100)
    for made, expected in ((policy(rests), True), (policy(rests, idle_starts=False), False)):
        for number in range(8):
            made.forget(f"one of eight {number}")
        made.arrived(decodes, 0.0)
        made.arrived(request, 10.0)
        assert admits(made, request, decodes, now=10.0, free=500, needed=500) is expected
        made.arrived(waiting("other", 10, 0, 10.0), 10.0)
        assert not admits(made, request, decodes, now=10.0, free=500, needed=500)
        made.forget("other")
        assert admits(made, request, decodes, now=10.0, free=500, needed=500) is expected


@pytest.mark.parametrize(
    "params", [{"hold": -1}, {"keep": "x"}, {"cached": True}, {"idle_starts": 1}, {"other": 1}]
)
def test_parameters_that_are_none_are_told(params: dict[str, object]) -> None:
    with pytest.raises(BidValidationError, match=next(iter(params))):
        policy(**params)


def test_a_large_request_is_held_back_no_longer_than_a_usual_one() -> None:
    made = policy(Owner(0, used=13.0, tokens=1000))
    for _ in range(400):
        made.observe(FinishedRequest("done", 250, 10))
    large = waiting("large", 4000, 0, 12.0)
    assert not admits(made, large, runs(100, 0), now=13.9, free=4500, needed=4000)  # 8 * 0.25 s
    assert admits(made, large, runs(100, 0), now=14.1, free=4500, needed=4000)
