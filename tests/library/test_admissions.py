from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bidkv import BidValidationError, RequestState, create_default_registry
from bidkv.admission.boost import BoostRate, boosted, decay_rate
from bidkv.admission.peak_gate import forecast, peak_tokens
from bidkv.lengths.estimates import DeclaredLengths, LearnedLengths
from bidkv.request import FinishedRequest, PoolState

POOL = PoolState(capacity_tokens=10_000, free_tokens=10_000, seconds_per_step=0.01)
sizes = st.floats(1e-6, 100)
gammas = st.floats(1e-3, 1e3)


def waiting(name: str, prompt: int = 100, declared: int = 100, arrival: float = 0.0, **more) -> RequestState:
    return RequestState(name, 0, prompt, 0, declared, arrival=arrival, **more)


def done(prompt: int, output: int, declared: int = 512) -> FinishedRequest:
    return FinishedRequest("x", prompt, output, declared)


def admission(name: str, **params):
    policy = create_default_registry().pair(name, "lifo", admission_params=params).admission
    policy.pool = POOL
    return policy


def order(policy, *requests: RequestState, now: float = 0.0) -> str:
    return "".join(r.request_id for r in sorted(requests, key=lambda r: policy.key(r, now)))


@given(sizes, sizes, gammas)
def test_of_two_that_arrive_together_boost_prefers_the_smaller(
    one: float, other: float, gamma: float
) -> None:
    assume(one < other)
    assert boosted(5.0, one, gamma) <= boosted(5.0, other, gamma) <= 5.0


@given(st.floats(0, 1), st.floats(0.01, 10), st.floats(0.01, 10))
def test_little_gamma_is_shortest_first_and_much_is_arrival_order(
    gap: float, one: float, other: float
) -> None:
    assume(gap > 1e-3 and other > one * 1.01)
    assert boosted(gap, one, 1e-6) < boosted(0.0, other, 1e-6)
    assert boosted(0.0, other, 1e6) < boosted(gap, one, 1e6)


def test_boost_weighs_arrival_against_kv_token_seconds() -> None:
    # s = (100 + 50) * 100 * .01 / 10,000 = .015 s and (1000 + 250) * 500 * .01 / 10,000 = .625 s
    small, large = waiting("s", arrival=2.0), waiting("l", 1000, 500)
    assert order(admission("boost", gamma=1.0), large, small) == "sl"  # 2 - 4.2 < 0 - .76
    assert order(admission("boost", gamma=2.0), large, small) == "ls"  # 2 - 1.76 > 0 - .17
    assert admission("boost").key(small) == (pytest.approx(2.0 + math.log(1 - math.exp(-0.015))),)


def test_the_decay_rate_solves_its_equation_and_is_lowest_under_overload() -> None:
    sizes = [0.1, 0.2, 0.6]
    gamma = decay_rate(sizes, 2.0, 1e-3, 1e3)
    assert gamma == pytest.approx(2.0 * (sum(map(lambda s: math.exp(gamma * s), sizes)) / 3 - 1), rel=1e-4)
    assert decay_rate(sizes, 1 / 0.3, 1e-3, 1e3) == 1e-3


def test_gamma_from_the_load() -> None:
    auto, relative = BoostRate("boost", "auto", 0.1), BoostRate("boost", "relative", 0.1)
    for n in range(64):
        auto.arrived(n / 2, 0.3)
        relative.arrived(n / 2, 0.3)
    assert auto.value == pytest.approx(decay_rate([0.3], 2.0, 1e-3, 1e3), rel=0.01)
    assert relative.value == pytest.approx(0.1 / 0.3)
    for bad in (0, -1, "fast", True):
        with pytest.raises(BidValidationError, match="boost: gamma must be > 0 or one of auto, relative"):
            BoostRate("boost", bad, 0.1)


def test_token_seconds_learns_what_the_declared_length_hides() -> None:
    policy = admission("token-seconds", lengths="learned")
    chatty, terse = waiting("c", 100, 512), waiting("t", 200, 512)
    assert order(policy, terse, chatty) == "ct"
    for _ in range(20):
        policy.observe(done(100, 400))
        policy.observe(done(200, 20))
    assert order(policy, chatty, terse) == "tc"
    assert order(admission("token-seconds"), chatty, terse) == "ct"


def test_oracles_need_the_truth() -> None:
    for name in ("boost_oracle", "token-seconds_oracle", "bidkv2_oracle"):
        policy = admission(name)
        assert policy.oracle
        long, short = waiting("l", 10, 20, true_output_tokens=20), waiting("s", 10, 500, true_output_tokens=5)
        assert order(policy, long, short) == "sl"
        with pytest.raises(BidValidationError, match="true_output_tokens of request 'a' is not known"):
            policy.key(waiting("a"))


@given(st.lists(st.integers(1, 400), min_size=20, max_size=60), st.integers(0, 399), st.floats(0, 1))
def test_learned_lengths_are_those_of_the_longer_ones(outputs: list[int], so_far: int, share: float) -> None:
    lengths = LearnedLengths(window=40)
    for output in outputs:
        lengths.observe(done(100, output))
    request = replace(waiting("a", 100, 512), output_tokens=so_far)
    longer = sorted(o for o in outputs[-40:] if o > so_far)
    if longer:
        assert lengths.mean(request) == pytest.approx(sum(longer) / len(longer))
        assert lengths.quantile(request, share) == longer[min(len(longer) - 1, int(share * len(longer)))]
    else:
        assert lengths.mean(request) == so_far + max(1.0, (512 - so_far) / 4)
    assert lengths.quantile(request, share) > so_far


def test_learned_lengths_borrow_until_they_have_seen_enough() -> None:
    lengths = LearnedLengths(enough=3)
    assert lengths.mean(waiting("a", 100, 512)) == 512 == DeclaredLengths().mean(waiting("a", 100, 512))
    for _ in range(3):
        lengths.observe(done(1000, 90))
    assert lengths.mean(waiting("a", 100, 512)) == 90  # the same max_tokens
    assert lengths.mean(waiting("a", 100, 256)) == 90  # all
    assert lengths.mean(waiting("a", 100, 64)) == 64  # but never more than it may have
    for _ in range(3):
        lengths.observe(done(100, 10))
    assert lengths.mean(waiting("a", 100, 512)) == 10


def test_lengths_are_learned_where_everybody_declares_what_the_context_leaves() -> None:
    lengths = LearnedLengths()
    for prompt in range(100, 140):
        lengths.observe(replace(done(prompt, 300), max_tokens=8192 - prompt))
    assert lengths.mean(waiting("a", 1000, 7192)) == 300
    assert lengths.quantile(waiting("a", 1000, 7192), 0.9) == 300


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("backfill", {"depth": 0}, "backfill: depth must be >= 1, got 0"),
        ("backfill", {"alone_after": -1}, "backfill: alone_after must be >= 0, got -1"),
        ("backfill", {"alone_after_s": -1.0}, "backfill: alone_after_s must be >= 0, got -1.0"),
        ("backfill", {"headroom": 1.0}, "backfill: headroom must be below 1, got 1.0"),
        ("boost", {"lengths": "guessed"}, "boost: lengths must be one of declared, learned, got 'guessed'"),
        ("boost", {"speed": 1}, "bad admission parameters {'speed': 1}"),
    ],
)
def test_bad_parameters_are_named(name: str, params: dict, message: str) -> None:
    with pytest.raises(BidValidationError, match=message.replace("{", r"\{")):
        admission(name, **params)


def test_bidkv2_wants_no_more_than_the_shortfall_at_the_least_cost() -> None:
    victim = create_default_registry().get("bidkv2").victim
    victim.pool = replace(POOL, shortfall_tokens=16)
    large = RequestState("l", 900, 100, 800, 1000, private_tokens=900)
    small = RequestState("s", 100, 50, 50, 1000, private_tokens=100)
    shared = RequestState("p", 500, 490, 10, 1000, private_tokens=4)
    assert victim.select([large, small, shared], 0.0) is small  # shared frees too little, large costs more
    victim.pool = replace(POOL, shortfall_tokens=900)
    assert victim.select([large, small, shared], 0.0) is large
    tired = replace(small, preemptions=3)
    victim.pool = replace(POOL, shortfall_tokens=16)
    assert victim.select([large, tired], 0.0) is large


def test_bidkv2_auctions_memory_by_delay_per_token_second() -> None:
    policy = admission("bidkv2")
    small, large = waiting("s", 100, 100, arrival=10.0), waiting("l", 2000, 100, arrival=0.0)
    # seconds of delay by tokens: (0 + 1) / 150 against (10 + 1) / 2,050, then against 11 / 1,050
    assert order(policy, large, small, now=10.0) == "sl"
    assert order(policy, replace(large, prompt_tokens=1000), small, now=10.0) == "ls"


def test_residual_cost_counts_what_must_be_computed_again() -> None:
    victim = create_default_registry().get("residual-cost").victim
    shared = RequestState("p", 900, 890, 10, 100, private_tokens=50)
    own = RequestState("o", 200, 150, 50, 100, private_tokens=200)
    assert victim.select([own, shared], 0.0) is shared
    assert victim.select([own, replace(shared, preemptions=3)], 0.0) is own
    assert victim.score(own, 0.0) == -200
    for _ in range(200):
        victim.observe(FinishedRequest("x", 10, 10, preemptions=1, recomputed_tokens=25, restored_tokens=75))
    assert victim.score(own, 0.0) == pytest.approx(-50, rel=0.01)


def test_a_batch_of_victims_has_none_in_vain() -> None:
    victim = create_default_registry().get("residual-cost").victim
    states = [RequestState(n, t, t, 0, 100, private_tokens=t) for n, t in (("a", 40), ("b", 60), ("c", 300))]

    def batch(needed: int) -> str:
        return "".join(sorted(r.request_id for r in victim.select_batch(states, needed, 0.0)))

    assert batch(50) == "b"  # one that is enough, not a and b
    assert batch(61) == "c"
    assert batch(301) == "ac"  # taken in order of cost they would be a, b and c, b in vain
    assert batch(400) == "abc"
    assert batch(0) == ""


def test_a_min_admits_and_evicts_by_one_lower_bound() -> None:
    strategy = create_default_registry().get("a-min")
    fresh, grown = waiting("f", 100, 512, arrival=9.0), replace(waiting("g", 100, 512), output_tokens=30)
    assert order(strategy.admission, grown, fresh) == "fg"
    assert strategy.victim.select([fresh, grown], 0.0) is fresh
    for output in range(50, 90):
        strategy.observe(done(100, output))
    assert strategy.admission.key(fresh) == (52, 9.0)  # the 5 % quantile of 50 to 89
    assert strategy.admission.key(grown) == (52, 0.0)
    assert not strategy.admission.preempted_first


def test_hrrn_lets_who_waits_long_for_little_go_first() -> None:
    policy = admission("hrrn")
    short, long = waiting("s", declared=10, arrival=9.0), waiting("l", declared=200, arrival=0.0)
    assert policy.resorts
    assert order(policy, long, short, now=9.1) == "ls"  # .1 / .1 s of service against 9.1 / 2
    assert order(policy, long, short, now=10.0) == "sl"  # 1 / .1 against 10 / 2


def test_aged_sjf_forgives_tokens_for_waiting() -> None:
    policy = admission("aged-sjf", tokens_per_second=100)
    short, long = waiting("s", 50, 50, arrival=5.0), waiting("l", 200, 200)
    assert order(policy, short, long) == "ls"  # 4 s of tokens against 5 + 1
    assert order(admission("aged-sjf", tokens_per_second=10), long, short) == "sl"


def test_the_peak_is_where_the_sum_is_largest() -> None:
    assert peak_tokens([]) == 0
    assert peak_tokens([(100, 10)]) == 110
    # the short one ends after 10 steps: 100 + 200 + 2 * 10; alone, the long one ends at 100 + 50
    assert peak_tokens([(100, 50), (200, 10)]) == 320


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 30)), min_size=1, max_size=8))
def test_the_peak_agrees_with_counting_step_by_step(pairs: list[tuple[int, int]]) -> None:
    steps = range(1, max(left for _, left in pairs) + 1)
    assert peak_tokens(pairs) == max(sum(now + t for now, left in pairs if left >= t) for t in steps)


def test_a_set_rank_correlation_is_reached() -> None:
    kendall = pytest.importorskip("scipy.stats").kendalltau
    for tau in (0.0, 0.3, 0.6, 0.9, 1.0):
        policy = admission("predicted_oracle", tau=tau, seed=3)
        true = [int(100 * math.exp(math.sin(n * 12.9898) * 3)) + n % 7 for n in range(900)]
        requests = [waiting(f"r{n}", true_output_tokens=t) for n, t in enumerate(true)]
        predicted = [policy.lengths.mean(r) for r in requests]
        assert predicted == [policy.lengths.mean(r) for r in requests]
        assert abs(kendall(predicted[200:], true[200:]).statistic - tau) < 0.08, tau


def test_backfill_leaves_room_for_what_the_running_ones_will_add() -> None:
    policy = admission("backfill", growth=0.5)
    running = [replace(waiting("r", 100, 300), output_tokens=100)]  # 200 tokens to come
    pool = replace(POOL, free_tokens=300, needed_tokens=200)
    assert policy.admits(waiting("a"), running, pool)
    assert not policy.admits(waiting("a"), running, replace(pool, needed_tokens=201))


@pytest.mark.parametrize(
    ("seconds_per_step", "alone_from"),
    [(0.001, 32), (0.0125, 32), (0.02, 20), (0.1, 4), (1.0, 1)],
)
def test_passers_wait_for_steps_and_where_these_are_slow_for_seconds(
    seconds_per_step: float, alone_from: int
) -> None:
    policy = admission("backfill", alone_after=32, alone_after_s=0.4)
    policy.pool.seconds_per_step = seconds_per_step
    assert [policy.passes_alone(steps) for steps in range(40)] == [steps >= alone_from for steps in range(40)]
    assert admission("backfill", alone_after=0).passes_alone(0)


@pytest.mark.parametrize(("running", "alone_from"), [(0, 0), (1, 2), (5, 10), (16, 32), (256, 32)])
def test_passers_wait_for_fewer_steps_where_few_run_who_would_have_to_wait(
    running: int, alone_from: int
) -> None:
    policy = admission("backfill", alone_after=32, alone_each=2.0)
    policy.pool.seconds_per_step, policy.pool.running = 0.001, running
    assert [policy.passes_alone(steps) for steps in range(40)] == [steps >= alone_from for steps in range(40)]


def test_the_forecast_peak_counts_what_requests_share_once() -> None:
    running = [replace(waiting("r", 4000, 4000), output_tokens=500)]
    pool = replace(POOL, free_tokens=5500, needed_tokens=4800)
    lengths = {"r": 1000, "a": 300}

    def peak(pool: PoolState) -> float:
        return forecast(waiting("a", 4800), running, pool, lambda request: lengths[request.request_id])

    assert peak(pool) == 9900  # 4,500 and 4,800 tokens now; both have grown by 300 when the newcomer ends
    assert peak(replace(pool, needed_tokens=4000)) == 9100  # 800 of its prompt are in the cache
    assert peak(replace(pool, free_tokens=6000)) == 9400  # 500 of the 4,500 are held by others, too


@pytest.mark.parametrize("name", ["backfill_oracle", "bidkv2_oracle"])
def test_an_oracle_needs_no_prior(name: str) -> None:
    with pytest.raises(BidValidationError, match=f"{name}: prior=37 has no effect"):
        create_default_registry().get(name, admission_params={"prior": 37})


@pytest.mark.parametrize("name", ["backfill_oracle", "bidkv2_oracle"])
def test_an_oracle_leaves_room_for_what_the_running_ones_will_really_add(name: str) -> None:
    policy = admission(name, growth=0.5)
    running = [replace(waiting("r", 100, 4000, true_output_tokens=300), output_tokens=100)]
    pool = replace(POOL, free_tokens=300, needed_tokens=200)
    assert policy.admits(waiting("a"), running, pool)
    assert not policy.admits(waiting("a"), running, replace(pool, needed_tokens=201))
    with pytest.raises(BidValidationError, match="true_output_tokens of request 'b' is not known"):
        policy.admits(waiting("a"), [waiting("b")], pool)


@pytest.mark.parametrize("name", ["backfill", "backfill-deep", "bidkv2"])
def test_every_parameter_of_a_backfill_arrives_under_its_own_name(name: str) -> None:
    given = {
        "depth": 3, "max_overtaken": 5, "headroom": 0.07, "growth": 0.11, "alone_after": 13, "alone_after_s": 1.7, "alone_each": 1.9,
        "reclaims": True, "grace": 0.19, "grace_s": 2.3, "large": 0.29, "passing": 0.17,
        "passing_s": 1.3, "patience": 3.1,
    }  # fmt: skip
    admission = create_default_registry().get(name, admission_params={**given, "prior": 37}).admission
    assert {key: getattr(admission, "backfill" if key == "depth" else key) for key in given} == given
    assert admission.lengths.prior == 37
