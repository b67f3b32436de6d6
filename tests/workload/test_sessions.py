from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers_workload import VOCAB, freeze, from_file, mixture

from ray_jobs.workload.config import ArrivalConfig, DeclaredConfig, SourceConfig, WorkloadConfig
from ray_jobs.workload.length_config import DurationConfig, LengthConfig
from ray_jobs.workload.session_config import AgentsConfig, ConversationConfig, SessionsConfig
from ray_jobs.workload.trace import Trace, TraceRequest
from ray_jobs.workload.turns import Turns


def length(median: float, most: int, sigma: float = 0.5) -> LengthConfig:
    return LengthConfig(median=median, sigma=sigma, max=most)


def conversations(count: int = 8, share: float = 0.3, **more) -> WorkloadConfig:
    conversation = ConversationConfig(
        system_tokens=20,
        turns=length(4, 9),
        first=length(40, 100),
        added=length(15, 60),
        output=length(12, 40),
        think_s=DurationConfig(median=2.0, sigma=0.5, max=6.0),
        agents=AgentsConfig(share=share, count=length(2, 3), turns=length(2, 4)),
    )
    fields = {
        "name": "talk",
        "num_requests": None,
        "rate": 0.5,
        "arrivals": ArrivalConfig(kind="sessions"),
        "source": SourceConfig(kind="sessions", conversation=conversation),
        "sessions": SessionsConfig(count=count),
        "declared": DeclaredConfig(kind="exact"),
    }
    return WorkloadConfig(**{**fields, **more})


def test_a_turn_goes_on_from_the_prompt_and_answer_before_it() -> None:
    trace = freeze(conversations())
    by_id = {r.request_id: r for r in trace.requests}
    assert len({r.session for r in trace.requests}) == 8
    later = [r for r in trace.requests if r.turn > 0]
    assert len(later) > 20
    for request in later:
        parent = by_id[request.parents[0]]
        assert (request.session, request.turn, request.kind) == (parent.session, parent.turn + 1, parent.kind)
        before = len(parent.prompt_token_ids)
        assert np.array_equal(request.prompt_token_ids[:before], parent.prompt_token_ids)
        assert len(request.prompt_token_ids) > before + parent.output_tokens
        assert request.arrival_s >= parent.arrival_s + request.think_time_s


def test_sub_agents_branch_and_the_next_turn_waits_for_their_last_answers() -> None:
    trace = freeze(conversations(count=20))
    agents = [r for r in trace.requests if r.kind == "talk-agent"]
    joins = [r for r in trace.requests if len(r.parents) > 1]
    assert len(agents) > 10 and joins
    ends = {parent for r in joins for parent in r.parents[1:]}
    followed = {r.parents[0] for r in agents if r.turn > 0}
    assert ends == {r.request_id for r in agents} - followed
    starts = {r.parents[0] for r in agents if r.turn == 0}
    assert starts == {r.parents[0] for r in joins}  # a turn that starts sub-agents goes on in one that waits


def test_more_sessions_begin_with_the_fewer_and_the_seed_decides() -> None:
    few, many = freeze(conversations(4)), freeze(conversations(8))
    wanted = {r.session for r in few.requests}
    same = [r for r in many.requests if r.session in wanted]
    assert [r.request_id for r in same] == [r.request_id for r in few.requests]
    assert Trace("t", 0, tuple(same)).hash == few.hash
    assert freeze(conversations(8)).hash == many.hash != freeze(conversations(8), seed=1).hash


def test_system_tokens_are_shared_by_all_sessions() -> None:
    first = [r.prompt_token_ids for r in freeze(conversations(share=0)).requests if r.turn == 0]
    assert len({tuple(tokens[:20]) for tokens in first}) == 1 < len({tuple(tokens[:24]) for tokens in first})


def test_scaled_sessions_still_share_their_prefixes() -> None:
    trace = freeze(conversations(length_scale=0.37))
    by_id = {r.request_id: r for r in trace.requests}
    for request in trace.requests:
        if request.turn:
            begins = by_id[request.parents[0]].prompt_token_ids
            assert np.array_equal(request.prompt_token_ids[: len(begins)], begins)


def test_a_full_context_ends_a_session_under_drop() -> None:
    whole, cut = freeze(conversations()), freeze(conversations(fit="drop"), model_len=130)
    assert 0 < cut.meta["dropped"] and len(cut.requests) < len(whole.requests)
    assert all(len(r.prompt_token_ids) + r.output_tokens <= 130 for r in cut.requests)
    turns: dict[str, list[int]] = {}
    for r in cut.requests:
        if r.kind == "talk":
            turns.setdefault(r.session, []).append(r.turn)
    assert all(numbers == list(range(len(numbers))) for numbers in turns.values())
    with pytest.raises(ValueError, match="workload.fit='error': must be truncate or drop"):
        freeze(conversations(), model_len=130)


def test_sessions_can_be_cut_in_turns_and_think_time() -> None:
    trace = freeze(conversations(sessions=SessionsConfig(count=8, max_turns=2, max_think_s=0.5)))
    assert len(trace.requests) <= 16 and max(r.think_time_s for r in trace.requests) == 0.5
    quick = freeze(
        conversations(sessions=SessionsConfig(count=8, max_turns=2, max_think_s=0.5, think_scale=0.2))
    )
    slow = {r.request_id: r.think_time_s for r in trace.requests}
    assert {r.request_id: r.think_time_s for r in quick.requests} == pytest.approx(
        {k: v * 0.2 for k, v in slow.items()}
    )


def test_no_session_begins_once_there_are_enough_requests() -> None:
    whole = freeze(conversations())
    some = freeze(conversations(num_requests=20))
    assert 20 <= len(some.requests) < len(whole.requests) and some.meta["sessions"] < 8
    sizes = {s: sum(r.session == s for r in whole.requests) for s in {r.session for r in some.requests}}
    assert len(some.requests) == sum(sizes.values())
    assert len(some.requests) - sizes[f"talk-{some.meta['sessions'] - 1:05d}"] < 20


def test_a_session_is_warm_up_as_a_whole() -> None:
    trace = freeze(conversations(warmup_s=4.0))
    warm = {r.session: r.warmup for r in trace.requests}
    assert set(warm.values()) == {True, False}
    assert all(r.warmup == warm[r.session] for r in trace.requests)


def test_a_session_trace_survives_saving_and_freezing_again(tmp_path) -> None:
    trace = freeze(conversations())
    trace.save(tmp_path / "trace.parquet")
    assert Trace.load(tmp_path / "trace.parquet").hash == trace.hash
    again = freeze(from_file("frozen", tmp_path / "trace.parquet"))
    assert again.hash == trace.hash
    fast = from_file(
        "frozen", tmp_path / "trace.parquet", arrivals=ArrivalConfig(kind="replay", time_scale=0.5)
    )
    slow_thoughts, fast_thoughts = (sum(r.think_time_s for r in t.requests) for t in (trace, freeze(fast)))
    assert fast_thoughts == pytest.approx(slow_thoughts / 2)


def test_a_trace_without_sessions_is_written_as_ever(tmp_path) -> None:
    columns = {}
    for name, workload in (("plain", mixture()), ("talk", conversations())):
        freeze(workload).save(tmp_path / name)
        schema = pq.read_schema(tmp_path / name)
        columns[name] = (json.loads(schema.metadata[b"bidkv"])["format"], len(schema.names))
    assert columns == {"plain": ("bidkv-trace-1", 9), "talk": ("bidkv-trace-2", 13)}


def turn(name: str, parents: tuple[str, ...] = (), think: float = 0.0, **more) -> TraceRequest:
    return TraceRequest(
        name, 0.0, [5, 6], 3, 3, session=more.pop("session", "s"), parents=parents, think_time_s=think, **more
    )


@pytest.mark.parametrize(
    "change",
    [{"session": "x"}, {"turn": 3}, {"think_time_s": 0.5}, {"parents": ()}],
    ids=lambda c: next(iter(c)),
)
def test_the_hash_knows_how_turns_hang_together(change: dict) -> None:
    first, second = turn("a"), turn("b", ("a",), 0.25)
    other = replace(second, **change)
    if change.get("session"):
        first = replace(first, session="x")
    assert Trace("t", 0, (first, other)).hash != Trace("t", 0, (turn("a"), second)).hash


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([turn("b", ("a",)), turn("a")], "the parent 'a' of 'b' must be an earlier request"),
        ([turn("a"), turn("b", ("a",), session="other")], "of its session"),
    ],
)
def test_impossible_sessions_are_refused(requests: list[TraceRequest], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trace("t", 0, tuple(requests))


def test_requests_without_a_session_have_no_turns() -> None:
    with pytest.raises(ValueError, match="for requests of a session"):
        turn("a", think=1.0, session="")


def test_a_turn_is_due_when_all_its_parents_are_answered_and_its_first_one_was_thought_about() -> None:
    requests = [turn("main"), turn("sub", ("main",)), turn("next", ("main", "sub"), think=2.0), turn("other")]
    turns = Turns(requests)
    assert turns.first() == [0, 3]
    assert turns.answered("main", 10.0) == [(10.0, 1)]
    assert turns.answered("sub", 11.0) == [(12.0, 2)]
    late = Turns(requests)
    late.answered("main", 10.0)
    assert late.answered("sub", 20.0) == [(20.0, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sessions": SessionsConfig()}, "workload.num_requests=None: must be a number .* for sessions"),
        ({"arrivals": ArrivalConfig(kind="poisson")}, "workload.arrivals.kind='poisson'"),
        ({"source": SourceConfig(kind="sessions")}, "workload.source.conversation=None"),
    ],
)
def test_what_sessions_need(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conversations(**change)


def test_other_sources_cannot_arrive_as_sessions() -> None:
    with pytest.raises(ValueError, match="workload.arrivals.kind='sessions'"):
        from_file("azure", "some.csv", arrivals=ArrivalConfig(kind="sessions"))


def test_tokens_are_in_the_vocabulary() -> None:
    assert max(int(r.prompt_token_ids.max()) for r in freeze(conversations()).requests) < VOCAB
