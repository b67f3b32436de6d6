"""The time that scheduling takes: what is charged, what is hidden, and that nothing else changes."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from sim_bench import compose_job, random_trace, run, variant

from ray_jobs.engines.sim.scheduling import TERMS, Counts, EngineThread, SchedulingCost
from ray_jobs.engines.sim.scheduling_fit import cost_errors, fit_cost

COST = SchedulingCost(
    step_s=1e-4, request_s=2e-5, candidate_s=5e-5, lookup_s=5e-6, state_s=2e-6, summed_s=1e-6, key_s=7e-6
)
LOAD = {"seed": 1, "count": 60, "shared": 40}


def finish_times(outcome):
    return [log.finish_t for log in outcome.logs]


def test_the_simulator_charges_by_default_and_null_turns_it_off():
    everything = Counts(*[100] * len(fields(Counts)))
    assert compose_job().engine.sim.scheduling.strategy_seconds(everything) > 0
    assert compose_job("engine.sim.scheduling=null").engine.sim.scheduling is None


def test_a_bad_coefficient_is_named():
    with pytest.raises(Exception, match=r"engine\.sim\.scheduling\.key_s=-1"):
        compose_job("engine.sim.scheduling.key_s=-1")


def test_stock_has_its_scheduling_in_its_step_times_already(tiny_parts, tmp_path):
    """Only its record says what it took: not one event, step or answer is at another time."""
    for overlap in (True, False):
        parts, trace = variant(tiny_parts, blocks=60, overlap=overlap), random_trace(**LOAD)
        off = run(parts, trace, tmp_path, name="off", scheduling=None)
        on = run(parts, trace, tmp_path, name="on", scheduling=replace(COST, scale=100.0))
        assert (tmp_path / "off.jsonl").read_bytes() == (tmp_path / "on.jsonl").read_bytes()
        assert off.steps.drop(columns="schedule_us").equals(on.steps.drop(columns="schedule_us"))
        assert finish_times(off) == finish_times(on)
        assert off.steps["schedule_us"].isna().all() and (on.steps["schedule_us"] > 0).all()


@pytest.mark.parametrize("strategy", ["backfill", "bidkv2"])
@pytest.mark.parametrize("overlap", [True, False])
def test_a_strategy_whose_looks_are_free_runs_as_before(tiny_parts, tmp_path, strategy, overlap):
    parts, trace = variant(tiny_parts, blocks=48, overlap=overlap), random_trace(**LOAD)
    free = SchedulingCost(step_s=1.0, request_s=1.0)  # vllm's own: in the calibration
    off = run(parts, trace, tmp_path, strategy=strategy, name="off", scheduling=None)
    on = run(parts, trace, tmp_path, strategy=strategy, name="on", scheduling=free)
    assert (tmp_path / "off.jsonl").read_bytes() == (tmp_path / "on.jsonl").read_bytes()
    assert finish_times(off) == finish_times(on)


@pytest.mark.parametrize("strategy", ["backfill", "bidkv2"])
@pytest.mark.parametrize("overlap", [True, False])
def test_charged_runs_are_the_same_again_and_with_shortcuts_off(tiny_parts, tmp_path, strategy, overlap):
    parts, trace = variant(tiny_parts, blocks=48, overlap=overlap), random_trace(**LOAD)
    slow = replace(COST, scale=30.0)
    kinds = {"fast": {}, "again": {}, "stock": {"shortcuts": False}, "checked": {"check": True}}
    outcomes = {
        name: run(parts, trace, tmp_path, strategy=strategy, name=name, scheduling=slow, **kind)
        for name, kind in kinds.items()
    }
    events = {(tmp_path / f"{name}.jsonl").read_bytes() for name in kinds}
    assert len(events) == 1
    first = outcomes["fast"]
    assert first.steps["schedule_delay_s"].sum() > 0
    for other in outcomes.values():
        assert other.steps.equals(first.steps) and finish_times(other) == finish_times(first)


def test_without_async_scheduling_all_that_is_added_delays_the_step(tiny_parts, tmp_path):
    parts = variant(tiny_parts, blocks=48, overlap=False)
    outcome = run(parts, random_trace(**LOAD), tmp_path, strategy="backfill", scheduling=COST)
    steps = outcome.steps
    added = (
        steps["schedule_us"] / 1e6
        - COST.step_s
        - COST.request_s * (steps["prefill_reqs"] + steps["decode_reqs"])
    )
    assert added.max() > COST.candidate_s
    assert steps["schedule_delay_s"].to_numpy() == pytest.approx(added.to_numpy(), abs=1e-12)
    free = run(parts, random_trace(**LOAD), tmp_path, strategy="backfill", scheduling=None)
    assert outcome.duration_s > free.duration_s


def test_async_scheduling_hides_what_a_long_step_has_room_for(tiny_parts, tmp_path):
    """The same costs: behind steps of at least 10 ms nothing is seen of them, behind short ones most is."""
    parts, trace = variant(tiny_parts, blocks=48), random_trace(1, 60, rate=1e5)
    cost = SchedulingCost(key_s=1e-4)  # bidkv2 asks for the keys of all who wait
    sim = compose_job().engine.sim.calibration
    shares = {}
    for name, step_s in (("long", 1e-2), ("short", 1e-5)):
        calibration = replace(sim, step_overhead_s=step_s, prefill_step_s=0.0)
        outcome = run(parts, trace, tmp_path, strategy="bidkv2", scheduling=cost, calibration=calibration)
        steps = outcome.steps
        behind = steps["decode_reqs"].shift(1, fill_value=0) > 0  # another step was running
        asked = behind & (steps["schedule_us"] > 500)
        assert asked.sum() >= 50
        shares[name] = (steps["schedule_delay_s"][asked] > 0).mean()
    assert shares["long"] == 0 and shares["short"] > 0.8


def test_looking_further_takes_longer(tiny_parts, tmp_path):
    parts, trace = variant(tiny_parts, blocks=48, overlap=False), random_trace(**LOAD)
    spent = [
        run(parts, trace, tmp_path, strategy=name, scheduling=COST).steps["schedule_us"].mean()
        for name in ("stock", "backfill", "bidkv2")
    ]
    assert spent == sorted(spent) and spent[0] < spent[1]


def thread(**cost: float) -> EngineThread:
    return EngineThread(SchedulingCost(**cost))


def test_only_what_outlasts_the_step_in_flight_is_waited_for():
    looks = Counts(running=10, candidates=4)
    cost = {"step_s": 1e-3, "request_s": 1e-4, "candidate_s": 1e-3}  # stock's 2 ms, 4 ms more
    assert thread(**cost).schedule(looks, 0.0, 0.0) == pytest.approx((6e-3, 4e-3))  # nothing in flight
    assert thread(**cost).schedule(looks, 0.0, 1e-2) == pytest.approx((6e-3, 0.0))
    assert thread(**cost).schedule(looks, 0.0, 5e-3) == pytest.approx((6e-3, 1e-3))
    assert thread(**cost).schedule(looks, 0.0, 1e-3) == pytest.approx(
        (6e-3, 4e-3)
    )  # stock's own is not hidden either


def test_a_thread_that_still_schedules_begins_later():
    looks, busy = Counts(candidates=3), thread(candidate_s=1e-3)
    assert busy.schedule(looks, 0.0, 1e-2)[1] == 0.0
    assert busy.schedule(looks, 1e-3, 5e-3)[1] == pytest.approx(1e-3)  # from 3 ms to 6 ms


def test_another_cpu_scales_all_of_it():
    looks = Counts(running=7, candidates=3, keys=9)
    twice = replace(COST, scale=2.0)
    assert twice.stock_seconds(looks) == pytest.approx(2 * COST.stock_seconds(looks))
    assert twice.strategy_seconds(looks) == pytest.approx(2 * COST.strategy_seconds(looks))


def test_known_costs_are_found_again():
    draw = np.random.default_rng(0)
    names = [name for name in TERMS.values() if name]
    counts = [Counts(**{name: int(draw.integers(0, 200)) for name in names}) for _ in range(2000)]
    truth = replace(COST, prefix_block_s=6e-7, ordered_s=3e-6, summed_s=1e-5)
    exact = np.array([truth.stock_seconds(c) + truth.strategy_seconds(c) for c in counts])
    measured = exact * draw.lognormal(0, 0.02, len(exact))
    measured[::200] *= 5  # somebody else's work
    found = fit_cost(counts, measured)
    for name in ("request_s", "candidate_s", "lookup_s", "state_s", "summed_s", "key_s"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=0.1), name
    errors = cost_errors(found, counts, exact)
    assert abs(errors["total"]) < 0.02 and errors["median"] < 0.02
