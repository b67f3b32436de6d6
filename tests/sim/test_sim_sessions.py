"""Sessions on virtual time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sim_bench import compose_job, run, variant

from bidkv import create_default_registry
from bidkv.victim.base import VictimPolicy
from ray_jobs.engines.sim.prefix_hashes import PrefixHashes
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.trace import TraceRequest


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


def test_a_turn_computes_no_hash_that_its_session_has(tiny_parts, tmp_path, monkeypatch):
    """At true lengths most of a run was hashing the same prompts anew; counted, since seconds depend on the machine."""
    trace = talk()
    blocks = sum(len(request.prompt_token_ids) // 16 for request in trace.requests)
    digests, runs = {}, {}
    for shortcuts in (True, False):
        computed = 0

        def counted(request, hasher=tiny_parts.block_hasher):
            nonlocal computed
            made = hasher(request)
            computed += len(made)
            return made

        parts = replace(variant(tiny_parts, blocks=100), block_hasher=counted)
        runs[shortcuts] = run(
            parts, trace, tmp_path, retention="ttl_learned", log_schedule=True, shortcuts=shortcuts
        )
        digests[shortcuts] = computed
    assert runs[True].events == runs[False].events and runs[True].steps.equals(runs[False].steps)
    answers = sum(request.output_tokens for request in trace.requests) // 16
    assert digests[False] >= blocks > digests[True] + answers


def test_prompts_that_go_on_differently_share_the_hashes_of_their_beginning():
    tokens = np.arange(100)
    other = tokens.copy()
    other[50:] += 1
    first, goes_on, parts_ways, stranger = (
        TraceRequest(f"r{i}", 0.0, prompt, 4, 8, session=session)
        for i, (prompt, session) in enumerate(
            [(tokens[:64], "a"), (tokens, "a"), (other, "a"), (tokens, "b")]
        )
    )
    hashes = PrefixHashes(16)
    assert hashes.known(first) == []
    hashes.remember(first, [b"0", b"1", b"2", b"3"])
    assert hashes.known(goes_on) == [b"0", b"1", b"2", b"3"]
    assert hashes.known(parts_ways) == [b"0", b"1", b"2"]  # 50 tokens
    assert hashes.known(stranger) == []
    hashes.MOST = 5
    hashes.remember(stranger, [b"0", b"1"])
    assert hashes.known(goes_on) == [] and hashes.known(stranger) == [b"0", b"1"]
