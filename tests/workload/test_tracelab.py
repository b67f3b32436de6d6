"""TraceLab's sessions of coding agents, on a small file of the same form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_workload import TRACES, freeze, from_file

from ray_jobs.workload.config import ArrivalConfig, WorkloadConfig
from ray_jobs.workload.session_config import SessionsConfig
from ray_jobs.workload.trace import Trace

ROUNDS = """session_id,arrival_time,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms
a,0,0,0,100,20,1500
a,0,1,120,30,10,250
a,0,2,90,40,5,0
b,117,1,140,8,6,0
b,117,0,50,60,30,40
"""


def agents(path: Path, **more) -> WorkloadConfig:
    fields = {"arrivals": ArrivalConfig(kind="sessions"), "pick": "head"}
    return from_file("tracelab", path, **{**fields, **more})


def trace_file(folder: Path, text: str = ROUNDS) -> Path:
    path = folder / "multi_session.csv"
    path.write_text(text)
    return path


def by_session(trace: Trace) -> list[list]:
    found: dict[str, list] = {}
    for request in sorted(trace.requests, key=lambda r: r.request_id):
        found.setdefault(request.session, []).append(request)
    return list(found.values())


def test_a_round_keeps_what_it_says_of_the_context_and_waits_for_its_tools(tmp_path) -> None:
    a, b = by_session(freeze(agents(trace_file(tmp_path))))
    assert [len(r.prompt_token_ids) for r in a] == [100, 150, 130] and [r.output_tokens for r in a] == [
        20,
        10,
        5,
    ]
    first, second, third = (r.prompt_token_ids for r in a)
    assert np.array_equal(second[:100], first)
    assert np.array_equal(third[:90], first[:90]) and not np.array_equal(third[90:100], first[90:])
    assert [r.think_time_s for r in a] == [0, 1.5, 0.25]
    assert [r.parents for r in a] == [(), (a[0].request_id,), (a[1].request_id,)]
    # Its first round goes on from 50 tokens that are not in the file.
    assert [len(r.prompt_token_ids) for r in b] == [110, 148] and b[1].think_time_s == 0.04
    assert np.array_equal(b[1].prompt_token_ids[:110], b[0].prompt_token_ids)
    assert not np.array_equal(b[0].prompt_token_ids[:50], first[:50])


def test_the_name_of_the_session_column_may_be_id(tmp_path) -> None:
    named = freeze(agents(trace_file(tmp_path)))
    assert freeze(agents(trace_file(tmp_path, ROUNDS.replace("session_id", "id")))).hash == named.hash


def test_sessions_are_picked_and_end_where_the_model_is_full(tmp_path) -> None:
    one = agents(trace_file(tmp_path), sessions=SessionsConfig(count=1), pick="random")
    assert {len(freeze(one, seed=seed).requests) for seed in range(8)} == {2, 3}
    full = freeze(agents(trace_file(tmp_path), fit="drop"), model_len=145)
    assert sorted(r.output_tokens for r in full.requests) == [20, 30] and full.meta["dropped"] == 3
    with pytest.raises(ValueError, match="workload.source.pick='window': must be random or head"):
        freeze(agents(trace_file(tmp_path), pick="window"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "a CSV file with the columns session_id .or id., round_idx, prefix_len"),
        (ROUNDS.splitlines()[0] + "\n", "a file with sessions in it"),
        (ROUNDS.replace("30,10,250", "30,0,250"), "record 2: output_len=0 must be a number >= 1"),
        (ROUNDS.replace("60,30,40", "60,30,"), "record 5: tool_wait_after_ms=nan must be a number >= 0"),
        (ROUNDS.replace("a,0,2", "a,0,1"), "record 3: round_idx=1 of its session occurs twice"),
    ],
)
def test_bad_files_are_named(tmp_path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        freeze(agents(trace_file(tmp_path, text)))
    assert "workload.source.path" in str(caught.value) and "\n" not in str(caught.value)


def test_the_real_file() -> None:
    path = TRACES / "multi_session_large.csv"
    if not path.exists():
        pytest.skip(f"needs the public trace {path}")
    trace = freeze(agents(path), model_len=16_384)
    assert (trace.meta["sessions"], len(trace.requests)) == (48, 303)
    first = {r.request_id: r.prompt_token_ids for r in trace.requests}
    for request in (r for r in trace.requests if r.parents):
        before = first[request.parents[0]]
        assert np.array_equal(request.prompt_token_ids[: len(before)], before)
