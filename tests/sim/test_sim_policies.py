"""What the second version of the policy interface does to vLLM's scheduler: keys, gates, passing, failures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from sim_bench import BLOCK, preemptions, random_trace, variant
from sim_bench import run as run_strategy

from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.admission.backfill import Backfill
from bidkv.admission.boost import Boost
from bidkv.victim.residual_cost import ResidualCost
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.simulate import simulate


def run(parts: Any, trace: Any, folder: Any, sim: Any, **settings: Any) -> Outcome:
    """One checked run under these settings."""
    events = folder / "events.jsonl"
    events.unlink(missing_ok=True)
    given = AdapterSettings(run_id="test", events_path=str(events), steps_path="memory", **settings)
    return simulate(parts, sim, trace, given)


@pytest.fixture
def sim() -> Any:
    from sim_bench import tiny_job

    return replace(tiny_job().engine.sim, check=True)


def finish_times(outcome: Outcome) -> list[float]:
    return [log.finish_t for log in outcome.logs]


def test_watermark_decides_as_vllms_own_watermark(tiny_parts, tmp_path, sim):
    trace = random_trace(5, 60)
    ours = run(variant(tiny_parts, blocks=60), trace, tmp_path, sim, strategy="watermark")
    theirs = run_strategy(
        variant(tiny_parts, blocks=60, watermark=0.05), trace, tmp_path, strategy="preempt-evict"
    )
    without = run_strategy(variant(tiny_parts, blocks=60), trace, tmp_path, strategy="preempt-evict")
    assert finish_times(ours) == finish_times(theirs) != finish_times(without)
    assert len(preemptions(ours)) == len(preemptions(theirs)) < len(preemptions(without))


def test_stock_with_the_adapter_off_decides_as_the_adapter_with_vllms_pair(tiny_parts, tmp_path, sim):
    parts, trace = variant(tiny_parts, blocks=60), random_trace(5, 60)
    off = run(parts, trace, tmp_path, sim, strategy="stock", kill_switch=True)
    on = run_strategy(parts, trace, tmp_path, strategy="preempt-evict")
    assert finish_times(off) == finish_times(on)
    assert {event["source"] for event in preemptions(off)} == {"kill_switch"}


def test_a_gate_that_lets_nobody_in_still_lets_one_run(tiny_parts, tmp_path, sim):
    outcome = run(
        variant(tiny_parts, blocks=60), random_trace(6, 20), tmp_path, sim,
        strategy="peak-gate", admission_params={"limit": 1e-9},
    )  # fmt: skip
    assert outcome.status == "finished" and {log.status for log in outcome.logs} == {"ok"}
    assert outcome.steps["running"].max() == 1
    assert not preemptions(outcome) and not outcome.events[-1]["degraded"]


def test_backfill_passes_and_stops_where_it_should(tiny_parts, tmp_path, sim):
    parts, trace = variant(tiny_parts, blocks=60), random_trace(7, 80)
    arrival = {r.request_id: r.arrival_s for r in trace.requests}

    def overtaken(**params: Any) -> int:
        given = {"headroom": 0.0, "growth": 0.0, **params}
        outcome = run(parts, trace, tmp_path, sim, strategy="backfill", admission_params=given)
        first = {e["id"]: e["first_scheduled_t"] for e in outcome.events if e["type"] == "request"}
        return max(
            sum(arrival[other] > arrival[name] and first[other] < first[name] for other in first)
            for name in first
        )

    assert overtaken(depth=16) > 3
    assert 0 < overtaken(depth=16, max_overtaken=3) <= 3


def test_passers_add_no_step_with_a_prompt_but_after_a_while(tiny_parts, tmp_path, sim):
    """Told from the outside: in a step whose new starters all passed somebody who waits, no prompt goes on and
    none was computed in the steps before."""
    parts, trace = variant(tiny_parts, blocks=60), random_trace(7, 80)
    arrival = {r.request_id: r.arrival_s for r in trace.requests}

    def alone(after: int) -> list[int]:
        """Steps without a prompt before each step in which only passers start."""
        given = {"headroom": 0.0, "growth": 0.0, "alone_after": after}
        outcome = run(parts, trace, tmp_path, sim, strategy="backfill", admission_params=given)
        first = {e["id"]: e["first_scheduled_t"] for e in outcome.events if e["type"] == "request"}
        found, quiet = [], 0
        for step in outcome.steps.itertuples():
            if not step.prefill_tokens:
                quiet += 1
                continue
            started = [name for name, t in first.items() if t == step.t]
            waits = [name for name, t in first.items() if arrival[name] <= step.t < t]
            oldest = min((arrival[name] for name in waits), default=math.inf)
            if len(started) == step.prefill_reqs and all(arrival[name] > oldest for name in started):
                found.append(quiet)
            quiet = 0
        return found

    assert min(alone(0)) < 5
    assert min(alone(5)) >= 5


def test_a_policy_of_batches_is_told_what_a_whole_chunk_lacks(tiny_parts, tmp_path, sim, monkeypatch):
    asked: list[tuple[int, str]] = []
    choose = ResidualCost.select_batch

    def select_batch(self, candidates, needed_tokens, now):
        victims = choose(self, candidates, needed_tokens, now)
        asked.append((needed_tokens, victims[0].request_id))
        assert self.pool.shortfall_tokens == needed_tokens
        return victims

    monkeypatch.setattr(ResidualCost, "select_batch", select_batch)
    parts = variant(tiny_parts, blocks=60, batched_tokens=64, scheduler_reserve_full_isl=False)
    trace = random_trace(7, 60, prompt=(8, 300))
    outcome = run(parts, trace, tmp_path, sim, strategy="residual-cost")
    assert [event["victim"] for event in preemptions(outcome)] == [victim for _, victim in asked]
    needs = {needed for needed, _ in asked}
    assert BLOCK in needs and max(needs) > BLOCK and all(needed % BLOCK == 0 for needed in needs)
    assert not outcome.events[-1]["degraded"]


@pytest.mark.parametrize("broken", [(Backfill, "admits"), (Backfill, "observe"), (Boost, "arrived")])
def test_a_policy_that_fails_ends_its_own_say_and_not_the_run(
    tiny_parts, tmp_path, sim, monkeypatch, broken: tuple[type, str]
):
    def fail(*args: Any) -> None:
        raise RuntimeError("third party")

    policy, method = broken
    monkeypatch.setattr(policy, method, fail)
    outcome = run(variant(tiny_parts, blocks=60), random_trace(8, 30), tmp_path, sim, strategy=policy.name)
    assert outcome.status == "finished" and {log.status for log in outcome.logs} == {"ok"}
    assert outcome.events[-1]["degraded"] and outcome.events[-1]["strategy_errors"] >= 1


def test_the_simulators_pace_is_its_own(tiny_parts, tmp_path, sim, monkeypatch):
    seen: list[float] = []
    monkeypatch.setattr(Boost, "arrived", lambda self, request, now: seen.append(self.pool.seconds_per_step))
    outcome = run(
        variant(tiny_parts, blocks=60), random_trace(9, 40, rate=50.0), tmp_path, sim, strategy="boost"
    )
    assert len(set(seen)) > 10
    assert 0.2 < seen[-1] / outcome.steps["dur"].mean() < 5
