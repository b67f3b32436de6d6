"""Sessions on virtual time."""

from __future__ import annotations

import pytest
from sim_bench import compose_job, run, variant

from bidkv import create_default_registry
from bidkv.victim.base import VictimPolicy
from ray_jobs.workload.freeze import freeze_trace


def talk(count: int = 12):
    job = compose_job(
        "workload=sessions_small",
        "workload.num_requests=null",
        f"workload.sessions.count={count}",
        "workload.rate=60",
    )
    return freeze_trace(job.workload, 0, 2000, 512)


def test_a_turn_is_sent_when_its_session_lets_it(tiny_parts, tmp_path):
    trace = talk()
    outcome = run(variant(tiny_parts, blocks=64), trace, tmp_path)
    logs = {log.request.request_id: log for log in outcome.logs}
    assert outcome.status == "finished" and all(log.status == "ok" for log in logs.values())
    for request in trace.requests:
        log = logs[request.request_id]
        if request.parents:
            ready = [logs[parent].finish_t for parent in request.parents]
            ready[0] += request.think_time_s
            assert log.sent_t == log.scheduled_t == max(ready) >= request.arrival_s
        else:
            assert log.sent_t == request.arrival_s


def test_later_turns_find_their_prefix_in_the_cache(tiny_parts, tmp_path):
    trace = talk()
    outcome = run(variant(tiny_parts, blocks=1000), trace, tmp_path)
    cached = {event["id"]: event["cached"] for event in outcome.events if event["type"] == "request"}
    prompts = {r.request_id: len(r.prompt_token_ids) for r in trace.requests}
    later = [r for r in trace.requests if r.turn > 0]
    assert len(later) > 30
    for request in later:
        assert cached[request.request_id] >= prompts[request.parents[0]] // 16 * 16  # whole blocks of 16


def test_policies_see_the_session_and_its_turn(tiny_parts, tmp_path, monkeypatch):
    seen = {}
    policy: type[VictimPolicy] = type(create_default_registry().get("lcf").victim)
    select = policy.select

    def watched(self, candidates, now):
        seen.update({state.request_id: (state.session, state.turn) for state in candidates})
        return select(self, candidates, now)

    monkeypatch.setattr(policy, "select", watched)
    trace = talk()
    run(variant(tiny_parts, blocks=40), trace, tmp_path, strategy="lcf")
    truth = {r.request_id: (r.session, r.turn) for r in trace.requests}
    assert len(seen) > 10 and all(truth[name] == known for name, known in seen.items())


def test_answers_of_a_simulation_cannot_be_live():
    with pytest.raises(ValueError, match="workload.sessions.answers='live': must be recorded: a simulation"):
        compose_job("workload=sessions", "workload.sessions.answers=live")
