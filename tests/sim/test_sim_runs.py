"""Whole simulated runs: determinism, shortcuts, timeouts, closed loops, memory."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from sim_bench import preemptions, random_trace, run, variant

from bidkv import create_default_registry

STRATEGIES = create_default_registry().list_strategies()


def test_two_runs_write_the_same_bytes(tiny_parts, tmp_path):
    parts, trace = variant(tiny_parts, blocks=60), random_trace(1, 60, shared=40)
    first = run(parts, trace, tmp_path, strategy="static-random", name="first")
    second = run(parts, trace, tmp_path, strategy="static-random", name="second")
    assert len(preemptions(first)) >= 10
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()
    assert first.steps.equals(second.steps)
    assert [log.finish_t for log in first.logs] == [log.finish_t for log in second.logs]


def test_another_seed_makes_another_run(tiny_parts, tmp_path):
    parts, trace = variant(tiny_parts, blocks=60), random_trace(1, 60)
    victims = [
        [e["victim"] for e in preemptions(run(parts, trace, tmp_path, strategy="static-random", seed=s))]
        for s in (0, 1)
    ]
    assert victims[0] != victims[1]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("caching", [True, False])
def test_shortcuts_change_no_record(tiny_parts, tmp_path, caching, overlap):
    parts = variant(tiny_parts, blocks=48, caching=caching, overlap=overlap)
    for seed, strategy in enumerate(["preempt-evict", "bidkv", "lcf"]):
        trace = random_trace(seed, 60, shared=32, prompt=(1, 150))
        fast = run(parts, trace, tmp_path, strategy=strategy, name="fast", log_schedule=True, shortcuts=True)
        stock = run(
            parts, trace, tmp_path, strategy=strategy, name="stock", log_schedule=True, shortcuts=False
        )
        assert len(preemptions(stock)) >= 10
        assert (tmp_path / "fast.jsonl").read_bytes() == (tmp_path / "stock.jsonl").read_bytes()
        assert fast.steps.equals(stock.steps)
        for one, other in zip(fast.logs, stock.logs, strict=True):
            assert (one.status, one.first_token_t, one.finish_t) == (
                other.status,
                other.first_token_t,
                other.finish_t,
            )
            assert np.array_equal(one.itl_s, other.itl_s)


def test_every_strategy_finishes_and_victims_differ(tiny_parts, tmp_path):
    parts, trace = variant(tiny_parts, blocks=60), random_trace(3, 60)
    victims = {}
    for strategy in STRATEGIES:
        outcome = run(parts, trace, tmp_path, strategy=strategy)
        assert outcome.status == "finished" and all(log.status == "ok" for log in outcome.logs), strategy
        assert outcome.events[-1]["type"] == "run_end" and not outcome.events[-1]["degraded"], strategy
        victims[strategy] = tuple(e["victim"] for e in preemptions(outcome))
    registry = create_default_registry()
    gated = {name for name in STRATEGIES if registry.get(name).admission.gates}
    assert len(STRATEGIES) >= 12
    assert all(len(v) >= 5 for name, v in victims.items() if name not in gated)
    assert len(set(victims.values())) >= len(STRATEGIES) // 2


def test_prefix_caching_saves_tokens(tiny_parts, tmp_path):
    trace = random_trace(4, 40, shared=160, rate=50)
    on = run(variant(tiny_parts, blocks=200), trace, tmp_path)
    off = run(variant(tiny_parts, blocks=200, caching=False), trace, tmp_path)
    cached = [sum(e["cached"] for e in o.events if e["type"] == "request") for o in (on, off)]
    assert cached[0] >= 10 * 160 and cached[1] == 0
    assert on.duration_s < off.duration_s


def test_watermark_is_passed_through(tiny_parts, tmp_path):
    trace = random_trace(5, 60)
    counts = [
        len(preemptions(run(variant(tiny_parts, blocks=60, watermark=w), trace, tmp_path)))
        for w in (0.0, 0.3)
    ]
    assert counts[1] < counts[0] / 2


def test_the_schedule_follows_vllms_limits(tiny_parts, tmp_path):
    outcome = run(variant(tiny_parts, blocks=200, seqs=4, batched_tokens=64), random_trace(6, 30), tmp_path)
    steps = outcome.steps
    assert steps["running"].max() == 4
    assert (steps["prefill_tokens"] + steps["decode_tokens"]).max() == 64


def test_async_scheduling_records_what_it_is(tiny_parts, tmp_path):
    trace = random_trace(7, 30)
    for overlap, name in ((True, "async"), (False, "sync")):
        outcome = run(variant(tiny_parts, blocks=64, overlap=overlap), trace, tmp_path)
        assert outcome.events[0]["scheduler"] == name
        busy = outcome.steps[outcome.steps["decode_tokens"] > 0]
        ends = busy["t"].shift(-1) - (busy["t"] + busy["dur"])
        assert (ends < -1e-12).any() == overlap  # the next step is scheduled before this one's end


def test_late_requests_time_out_on_virtual_time(tiny_parts, tmp_path):
    trace = random_trace(8, 60, output=(60, 90))
    outcome = run(variant(tiny_parts, blocks=48), trace, tmp_path, request_timeout_s=0.5)
    late = [log for log in outcome.logs if log.status == "timeout"]
    done = [log for log in outcome.logs if log.status == "ok"]
    assert outcome.status == "finished" and late and done and len(late) + len(done) == 60
    assert all(np.isnan(log.finish_t) for log in late)
    assert all(log.finish_t - log.sent_t <= 0.5 for log in done)
    aborted = {e["id"] for e in outcome.events if e["type"] == "request" and e["reason"] == "abort"}
    assert aborted == {log.request.request_id for log in late}


def test_the_runs_deadline_ends_it(tiny_parts, tmp_path):
    outcome = run(variant(tiny_parts, blocks=48), random_trace(9, 60, rate=20), tmp_path, run_timeout_s=1.0)
    assert outcome.status == "timeout" and outcome.duration_s == 1.0
    statuses = {log.status for log in outcome.logs}
    assert statuses == {"ok", "timeout", "unsent"} or statuses == {"ok", "unsent"}
    assert sum(e["type"] == "request" for e in outcome.events) == sum(
        s.status != "unsent" for s in outcome.logs
    )


def test_a_request_that_never_fits_waits_for_its_timeout(tiny_parts, tmp_path):
    trace = random_trace(10, 3, prompt=(400, 400), output=(5, 5))
    outcome = run(variant(tiny_parts, blocks=10), trace, tmp_path, request_timeout_s=7.0)
    assert [log.status for log in outcome.logs] == ["timeout"] * 3
    assert outcome.duration_s == pytest.approx(trace.requests[-1].arrival_s + 7.0)


def test_real_time_is_limited_too(tiny_parts, tmp_path):
    with pytest.raises(TimeoutError, match="wall_timeout_s"):
        run(variant(tiny_parts, blocks=64), random_trace(11, 200), tmp_path, wall_timeout_s=1e-9)


def test_a_closed_loop_keeps_its_users_busy(tiny_parts, tmp_path):
    outcome = run(variant(tiny_parts, blocks=200), random_trace(12, 40, users=6), tmp_path)
    assert outcome.steps["running"].max() == 6
    assert all(log.status == "ok" for log in outcome.logs)
    finish = sorted(log.finish_t for log in outcome.logs)
    later = [log.scheduled_t for log in outcome.logs[6:]]
    assert later == pytest.approx(finish[: len(later)])


def test_times_are_consistent(tiny_parts, tmp_path):
    outcome = run(variant(tiny_parts, blocks=60), random_trace(13, 50), tmp_path)
    for log in outcome.logs:
        assert log.sent_t == log.scheduled_t == log.request.arrival_s
        assert log.sent_t < log.first_token_t <= log.finish_t
        assert len(log.itl_s) == log.request.output_tokens - 1
        assert log.finish_t - log.first_token_t == pytest.approx(log.itl_s.sum())
    seconds = outcome.steps["dur"].sum()
    assert seconds <= outcome.duration_s


def test_memory_does_not_grow_with_requests_done(tiny_parts, tmp_path):
    """Of vLLM's and the adapter's own objects, only those of live requests are left."""
    from vllm.v1.request import Request

    from bidkv.adapters.shared.accounting import RequestAccount

    alive: list[int] = []

    def count() -> int:
        return sum(isinstance(o, (Request, RequestAccount)) for o in gc.get_objects())

    from ray_jobs.engines.sim import loop

    class Watched(loop.Simulation):
        turns = 0

        def _turn(self):
            self.turns += 1
            if self.turns % 200 == 0:
                alive.append(count() - 2 * len(self.scheduler.requests))
            return super()._turn()

    import ray_jobs.engines.sim.simulate as module

    original, module.Simulation = module.Simulation, Watched
    try:
        run(variant(tiny_parts, blocks=100), random_trace(14, 600, rate=100), tmp_path)
    finally:
        module.Simulation = original
    assert len(alive) >= 4 and max(alive) <= 2
