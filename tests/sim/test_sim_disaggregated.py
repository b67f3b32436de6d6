"""Engines that prefill for engines that decode: vLLM's own connector on both sides, transfers on virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sim_bench import compose_job, random_trace, talk, tiny_job, variant

from bidkv import create_default_registry
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.config import RouterConfig
from ray_jobs.engines.shared.requests_table import requests_table
from ray_jobs.engines.sim.disaggregated.config import DisaggregationConfig
from ray_jobs.engines.sim.disaggregated.fleet import DisaggregatedFleet
from ray_jobs.engines.sim.disaggregated.simulate import Sides, simulate_disaggregated
from ray_jobs.engines.sim.simulate import simulate

SIM = replace(tiny_job().engine.sim, check=True)
LOAD = random_trace(3, 48, rate=400, shared=64)
INSTANT = 1e9  # GB/s


def disaggregated(
    parts, tmp_path, trace=LOAD, prefill=2, decode=2, gb_s=50.0, strategy="backfill", name="run",
    decode_parts=None, sim=SIM, router="power-of-two", **more,
):  # fmt: skip
    """`parts` are those of both sides unless `decode_parts` are given."""
    events = tmp_path / f"{name}.jsonl"
    settings = AdapterSettings(strategy, run_id=name, events_path=str(events), steps_path="memory")
    how = DisaggregationConfig(prefill, decode, gb_s)
    sides = Sides(parts, decode_parts or parts)
    return simulate_disaggregated(sides, sim, trace, settings, how, RouterConfig(router), **more)


def ended(run):
    return {event["id"]: event for event in run.events if event["type"] == "request"}


@pytest.fixture()
def watched(monkeypatch):
    """Every turn of a run: of each engine its used blocks, those of who is done there, who waits, and who passed others."""
    turns, fleets = [], []
    turn = DisaggregatedFleet._turn

    def watch(self):
        fleets[:] = [self]
        going_on = turn(self)
        turns.append([look(engine.scheduler) for engine in self.replicas])
        return going_on

    def look(scheduler):
        manager = scheduler.kv_cache_manager
        held = sum(
            len(manager.get_blocks(n).blocks[0]) for n, r in scheduler.requests.items() if r.is_finished()
        )
        used = manager.block_pool.num_gpu_blocks - 1 - manager.block_pool.get_num_free_blocks()
        return {
            "used": used,
            "held": held,
            "waiting": len(scheduler.waiting),
            "passers": len(scheduler._bidkv_tickets.passers),
        }

    monkeypatch.setattr(DisaggregatedFleet, "_turn", watch)
    return turns, fleets


@pytest.mark.parametrize("blocks", [64, 36], ids=["room", "tight"])
@pytest.mark.parametrize("gb_s", [50.0, 0.003], ids=["fast", "slow"])
def test_each_request_is_answered_once_and_nothing_is_lost(tiny_parts, tmp_path, watched, blocks, gb_s):
    """Blocks and tokens of each engine are checked in every step (`check`); here, what goes between them."""
    turns, fleets = watched
    run = disaggregated(
        variant(tiny_parts, blocks=64), tmp_path, gb_s=gb_s, decode_parts=variant(tiny_parts, blocks=blocks)
    )
    assert run.status == "finished" and {log.status for log in run.logs} == {"ok"}
    records = [event for event in run.events if event["type"] == "request"]
    assert len(records) == len(ended(run)) == len(LOAD.requests)
    for log in run.logs:
        record = ended(run)[log.request.request_id]
        prompt, output = len(log.request.prompt_token_ids), log.request.output_tokens
        assert (record["prompt"], record["output"], log.output_tokens) == (prompt, output, output)
        assert record["executed"] == prompt + output + record["recomputed"] - record["cached"]
        assert (
            record["found"] + record["pulled"] == prompt - 1
        )  # the last token is computed again, for its output
        assert record["prefill"]["output"] == 1 and record["prefill"]["replica"] < 2 <= record["replica"]
    for engine in fleets[0].replicas:
        assert not engine.scheduler.requests and engine.kv_share == 0
    assert max(state[0]["held"] for state in turns) > 0
    end = run.events[-1]
    assert end["requests"] == end["arrivals"] == len(LOAD.requests)
    table = requests_table(run.logs, run.events)
    assert table["preemptions"].sum() == sum(event["type"] == "preempt" for event in run.events)


@pytest.mark.parametrize("router", ["least-kv", "sticky"])
def test_sessions_go_on_and_runs_repeat(tiny_parts, tmp_path, router):
    trace, parts = talk(6), variant(tiny_parts, blocks=40)
    first, again = (
        disaggregated(parts, tmp_path, trace, router=router, name=f"{router}{n}", gb_s=0.01) for n in range(2)
    )
    assert {log.status for log in first.logs} == {"ok"} and first.duration_s == again.duration_s
    assert first.steps.equals(again.steps)
    assert first.events[1:-1] == again.events[1:-1]
    records = ended(first)
    assert len({record["prefill"]["replica"] for record in records.values()}) == 2
    assert len({record["replica"] for record in records.values()}) == 2
    assert sum(record["found"] for record in records.values()) > 0  # an earlier turn's KV is not pulled again


def test_shortcuts_change_nothing(tiny_parts, tmp_path):
    few = replace(LOAD, requests=LOAD.requests[:30])
    for overlap in (True, False):
        parts = variant(tiny_parts, blocks=40, overlap=overlap)
        plain, short = (
            disaggregated(parts, tmp_path, few, name=f"{overlap}{short}", sim=replace(SIM, shortcuts=short))
            for short in (False, True)
        )
        assert plain.events[1:-1] == short.events[1:-1]


def test_where_decode_is_full_prefill_holds_its_blocks_and_waits(tiny_parts, tmp_path, watched):
    turns, _ = watched
    trace, parts = random_trace(3, 50, rate=400), variant(tiny_parts, blocks=48)
    seen = {}
    for name, blocks in (("roomy", 400), ("tiny", 34)):
        turns.clear()
        decode = variant(tiny_parts, blocks=blocks)
        run = disaggregated(
            parts, tmp_path, trace, prefill=1, decode=1, gb_s=INSTANT, name=name, decode_parts=decode
        )
        assert {log.status for log in run.logs} == {"ok"}
        held, used, queue = (
            np.array([turn[0][key] for turn in turns]) for key in ("held", "used", "waiting")
        )
        assert used.max() <= 47 and used[-1] == 0
        seen[name] = {"held": held.mean(), "most held": held.max(), "queue": queue.max()}
    assert all(seen["tiny"][key] > seen["roomy"][key] for key in ("held", "queue")), seen
    assert seen["tiny"]["most held"] > 40  # of 47: what is not pulled fills the prefill engine


def test_a_slow_link_delays_the_first_token_by_what_it_carries(tiny_parts, tmp_path):
    parts, one = variant(tiny_parts, blocks=64), replace(LOAD, requests=LOAD.requests[:1])
    fast, slow = (disaggregated(parts, tmp_path, one, gb_s=gb_s, name=str(gb_s)) for gb_s in (INSTANT, 1e-3))
    blocks = -(-len(one.requests[0].prompt_token_ids) // parts.block_size)
    carried = blocks * parts.block_bytes / 1e6
    assert slow.logs[0].first_token_t - fast.logs[0].first_token_t == pytest.approx(carried, rel=1e-6)


def test_a_link_carries_one_prompt_after_another(tiny_parts, tmp_path):
    parts = variant(tiny_parts, blocks=400)
    at_once = replace(LOAD, requests=tuple(replace(r, arrival_s=0.0) for r in LOAD.requests[:8:2]))
    run = disaggregated(parts, tmp_path, at_once, prefill=1, decode=1, gb_s=1e-4, router="round-robin")
    blocks = sum(-(-len(r.prompt_token_ids) // parts.block_size) for r in at_once.requests)
    carried = blocks * parts.block_bytes / 1e5
    last = max(log.first_token_t for log in run.logs)
    assert carried < last < 1.2 * carried


@pytest.mark.parametrize(("gb_s", "timeout"), [(50.0, 0.5), (0.003, 1.0)])
def test_clients_that_give_up_leave_nothing_behind(tiny_parts, tmp_path, watched, gb_s, timeout):
    _, fleets = watched
    parts = variant(tiny_parts, blocks=36)
    run = disaggregated(parts, tmp_path, gb_s=gb_s, request_timeout_s=timeout)
    found = Counter(log.status for log in run.logs)
    assert found["timeout"] > 5 and found["ok"] > 5 and sum(found.values()) == len(LOAD.requests)
    assert all(not engine.scheduler.requests and engine.kv_share == 0 for engine in fleets[0].replicas)
    given_up = [record for record in ended(run).values() if record["reason"] == "abort"]
    assert any("prefill" in record for record in given_up)  # on the decode side
    assert run.events[-1]["requests"] == len(ended(run)) == len(LOAD.requests)


def test_a_run_that_takes_too_long_has_all_its_records(tiny_parts, tmp_path):
    run = disaggregated(variant(tiny_parts, blocks=40), tmp_path, gb_s=0.003, run_timeout_s=0.2)
    assert run.status == "timeout" and run.duration_s == 0.2
    assert run.events[-1]["requests"] == len(ended(run))


def test_policies_choose_on_both_sides(tiny_parts, tmp_path, monkeypatch):
    asked = Counter()
    policy = type(create_default_registry().get("lcf").victim)
    select = policy.select

    def watch(self, candidates, now):
        asked["prefill" if candidates[0].max_tokens == 1 else "decode"] += 1
        return select(self, candidates, now)

    monkeypatch.setattr(policy, "select", watch)
    # Prompts in chunks beside one another, so that prefill engines run out of memory, too.
    long = random_trace(5, 40, rate=2000, prompt=(200, 400), output=(20, 90))
    parts = variant(tiny_parts, blocks=40, batched_tokens=64, scheduler_reserve_full_isl=False)
    run = disaggregated(parts, tmp_path, long, strategy="lcf")
    victims = Counter(
        "prefill" if e["replica"] < 2 else "decode" for e in run.events if e["type"] == "preempt"
    )
    assert victims["prefill"] and victims["decode"]
    assert all(asked[side] >= victims[side] for side in victims)
    for event in run.events:
        if event["type"] == "preempt":
            assert event["source"] == "strategy"


def test_backfill_passes_on_both_sides(tiny_parts, tmp_path, watched):
    """Someone starts before who came earlier, as the policy says to each side's scheduler."""
    turns, _ = watched
    mixed = random_trace(7, 60, rate=1000, prompt=(8, 400), output=(5, 60))
    for strategy in ("preempt-evict", "backfill"):
        turns.clear()
        parts = variant(tiny_parts, blocks=36)
        disaggregated(parts, tmp_path, mixed, prefill=1, decode=1, strategy=strategy, name=strategy)
        passed = [max(state[side]["passers"] for state in turns) for side in (0, 1)]
        assert min(passed) > 0 if strategy == "backfill" else max(passed) == 0


def test_decode_steps_carry_no_prompts(tiny_parts, tmp_path):
    """Against one engine that does both: answers flow more evenly, and the first token waits for two engines."""
    trace = random_trace(9, 80, rate=150, prompt=(100, 300), output=(20, 80))
    wide = variant(tiny_parts, blocks=800, seqs=64)
    split = disaggregated(
        wide, tmp_path, trace, prefill=1, decode=1, gb_s=INSTANT, strategy="preempt-evict", name="split"
    )
    settings = AdapterSettings(
        "preempt-evict", run_id="one", events_path=str(tmp_path / "one.jsonl"), steps_path="memory"
    )
    one = simulate(wide, SIM, trace, settings)
    decode = split.steps[split.steps["replica"] == 1]
    assert not any(e["type"] == "preempt" for e in split.events)
    # The prompt's last token is computed with the step that samples the first one of the answer.
    assert decode["prefill_tokens"].sum() == len(trace.requests) == decode["prefill_reqs"].sum()
    gaps, both = (np.concatenate([log.itl_s for log in run.logs]) for run in (split, one))
    assert gaps.mean() < both.mean() and np.quantile(gaps, 0.99) < np.quantile(both, 0.99)
    alone = replace(trace, requests=trace.requests[:1])
    quick = disaggregated(wide, tmp_path, alone, prefill=1, decode=1, gb_s=INSTANT, name="quick")
    settings = replace(settings, run_id="single", events_path=str(tmp_path / "single.jsonl"))
    single = simulate(wide, SIM, alone, settings)
    assert single.logs[0].first_token_t < quick.logs[0].first_token_t  # one step more


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prefill=1"], "decode=0: must be at least 1 beside"),
        (["prefill=1", "decode=1", "gb_s=0"], "gb_s=0.0: must be > 0"),
        (["prefill=-1", "decode=1"], "prefill=-1: must be from 0 to 1024"),
    ],
)
def test_what_cannot_be_is_said(overrides, words):
    with pytest.raises(ValueError, match=words):
        compose_job(*(f"engine.disaggregation.{each}" for each in overrides))


def test_what_does_not_go_together_is_said():
    both = ["engine.disaggregation.prefill=1", "engine.disaggregation.decode=1"]
    for more, words in (
        ("engine.replicas=2", "engine.replicas=2: must be 1 beside"),
        ("engine.kv_offload_gib=1", "engine.kv_offload_gib=1.0: must be 0 beside"),
    ):
        with pytest.raises(ValueError, match=words):
            compose_job(*both, more)
