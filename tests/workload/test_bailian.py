"""Bailian's traces, on small files of the same form: shared blocks, chats whose turns come when they came."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_workload import TRACES, freeze, from_file

from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.workload.config import ArrivalConfig
from ray_jobs.workload.trace import Trace


def record(chat: int, at: float, ids: list[int], parent: int = -1, turn: int = 1, **more) -> dict:
    length = 16 * len(ids) - 3
    return {
        "chat_id": chat, "parent_chat_id": parent, "timestamp": at, "input_length": length, "output_length": 40,
        "type": "text", "turn": turn, "hash_ids": ids,
    } | more  # fmt: skip


CHATS = [
    record(0, 0.5, [0, 1, 2]),
    record(1, 1.0, [0, 9], type="search"),
    record(2, 5.0, [0, 1, 3, 4], parent=0, turn=2),
    record(3, 6.0, [7, 5000], parent=77, turn=3, output_length=1),  # begun before the file
    record(4, 9.0, [0, 1, 3, 5], parent=2, turn=3),
    record(5, 9.5, [0, 1, 6], parent=0, turn=2),  # another way to go on from the first
]


def trace_file(folder: Path, records: list[dict] = CHATS) -> Path:
    path = folder / "qwen_traceA_blksz_16.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def test_equal_hash_ids_are_equal_blocks_and_types_are_classes(tmp_path) -> None:
    trace = freeze(from_file("bailian", trace_file(tmp_path)))
    first, search, second, late, third, _ = (r.prompt_token_ids for r in trace.requests)
    assert [len(r.prompt_token_ids) for r in trace.requests] == [45, 29, 61, 29, 61, 45]
    assert np.array_equal(second[:32], first[:32]) and not np.array_equal(second[32:45], first[32:45])
    assert np.array_equal(third[:48], second[:48]) and np.array_equal(search[:16], first[:16])
    assert len(np.unique(late[:16])) > 8  # drawn, be the number of a block large or small
    assert [r.kind for r in trace.requests] == ["text", "search", *["text"] * 4]
    assert [r.arrival_s for r in trace.requests] == [0, 0.5, 4.5, 5.5, 8.5, 9]


def test_sharing_survives_scaling(tmp_path) -> None:
    first, _, second, *_ = freeze(from_file("bailian", trace_file(tmp_path), length_scale=0.5)).requests
    assert [len(first.prompt_token_ids), len(second.prompt_token_ids)] == [2 * 8 + 6, 3 * 8 + 6]
    assert np.array_equal(first.prompt_token_ids[:16], second.prompt_token_ids[:16])


def test_parents_make_sessions_whose_turns_follow_the_answer_before_them(tmp_path) -> None:
    trace = freeze(from_file("bailian", trace_file(tmp_path)))
    ids = [r.request_id for r in trace.requests]
    sessions = [r.session for r in trace.requests]
    assert sessions[0] == sessions[2] == sessions[4] == sessions[5] and len(set(sessions)) == 3
    assert [r.turn for r in trace.requests] == [0, 0, 1, 2, 2, 1]
    assert [r.parents for r in trace.requests] == [(), (), (ids[0],), (), (ids[2],), (ids[0],)]


def answered(trace: Trace, seconds: float) -> dict[float, float]:
    """When each request was sent, by its arrival, if every answer takes so many seconds."""
    clients, sent = VirtualClients(trace, request_timeout_s=100), {}
    pending: list[tuple[float, str]] = []
    while clients.next_send() is not None or pending:
        now = clients.next_send()
        if now is None or (pending and pending[0][0] < now):
            now, name = pending.pop(0)
            log = clients.live[name].log
            clients.receive(name, log.request.output_tokens, True, now)
            continue
        for log in clients.send(now):
            sent[log.request.arrival_s] = log.sent_t
            pending.append((now + seconds, log.request.request_id))
    return sent


def test_a_turn_comes_when_it_came_or_when_a_slower_engine_has_answered(tmp_path) -> None:
    trace = freeze(from_file("bailian", trace_file(tmp_path)))
    assert answered(trace, 0.25) == {0: 0, 0.5: 0.5, 4.5: 4.5, 5.5: 5.5, 8.5: 8.5, 9: 9}
    assert answered(trace, 6.0) == {0: 0, 0.5: 0.5, 4.5: 6.0, 5.5: 5.5, 8.5: 12.0, 9: 9}


def test_drawn_arrivals_and_users_take_the_turns_one_by_one(tmp_path) -> None:
    path = trace_file(tmp_path)
    users = ArrivalConfig(kind="closed_loop", users=2)
    drawn = freeze(from_file("bailian", path, arrivals=ArrivalConfig(kind="poisson")))
    closed = freeze(from_file("bailian", path, arrivals=users, rate=None))
    assert not drawn.has_sessions and not closed.has_sessions
    assert drawn.requests[1].arrival_s != 0.5


def test_a_window_has_the_chats_that_begin_in_it(tmp_path) -> None:
    path = trace_file(tmp_path)
    windows = [freeze(from_file("bailian", path, num_requests=3, pick="window"), seed=s) for s in (0, 1)]
    assert sorted(w.meta["rows"] for w in windows) == [[0, 3, 6], [3, 6, 6]]
    late = next(w for w in windows if w.meta["rows"][0] == 3)
    assert [(r.turn, r.parents) for r in late.requests] == [(2, ()), (2, ()), (1, ())]
    assert late.requests[1].session == late.requests[2].session


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(0, 0.0, [1, 2], input_length=33), "record 1: ValueError: 2 hash ids for 33 tokens, expected"),
        (record(0, 0.0, [1], output_length=0), "output_length=0 must be >= 1"),
        (record(0, 0.0, [1], turn=0), "turn=0 must be >= 1"),
        ({"chat_id": 0}, "record 1: KeyError: 'input_length'"),
    ],
)
def test_bad_records_are_named(tmp_path, bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(from_file("bailian", trace_file(tmp_path, [bad])))


def test_what_is_no_trace_is_said(tmp_path) -> None:
    with pytest.raises(ValueError, match="record 2: ValueError: chat_id=0 occurs twice"):
        freeze(from_file("bailian", trace_file(tmp_path, CHATS[:1] * 2)))
    pointer = tmp_path / "pointer.jsonl"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:41ac\nsize 27901454\n")
    with pytest.raises(ValueError, match=r"workload.source.path=.*not its place in Git LFS; `git lfs pull`"):
        freeze(from_file("bailian", pointer))


def test_the_real_trace() -> None:
    path = TRACES / "qwen_traceA_blksz_16.jsonl"
    if not path.exists():
        pytest.skip(f"needs the public trace {path}")
    trace = freeze(from_file("bailian", path, num_requests=2000, pick="head", fit="truncate"))
    assert any(r.parents for r in trace.requests) and len({r.kind for r in trace.requests}) > 1
