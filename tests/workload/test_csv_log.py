"""A log of one's own server: named columns, any kind of time, what was left out is counted and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_workload import from_file

from ray_jobs.workload.config import DeclaredConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.left_out import left_out_line
from ray_jobs.workload.source_config import ColumnsConfig, SourceConfig
from ray_jobs.workload.sources.shared.log import read_log


def log(folder: Path, header: str, *rows: str, name: str = "access.csv") -> str:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def read(path: str, **columns: str):
    return read_log(SourceConfig("csv", path=path, columns=ColumnsConfig(**columns)))


@pytest.mark.parametrize(
    "times",
    [
        ("2026-11-01T09:00:00Z", "2026-11-01T09:00:01.500Z", "2026-11-01T09:00:04Z"),
        ("2026-11-01 10:00:00+01:00", "2026-11-01 09:00:01.5+00:00", "2026-11-01 09:00:04+00:00"),
        ("1793523600", "1793523601.5", "1793523604"),
        ("1793523600000", "1793523601500", "1793523604000"),
        ("1793523600000000000", "1793523601500000000", "1793523604000000000"),
        ("0", "1.5", "4"),
    ],
)
def test_times_are_iso_or_numbers_since_any_moment(tmp_path, times):
    path = log(tmp_path, "timestamp,prompt_tokens,completion_tokens", *(f"{t},10,5" for t in times))
    assert np.allclose(read(path).table["seconds"], [0, 1.5, 4], atol=1e-6)


def test_columns_are_found_by_usual_names_or_named_whatever_separates_them(tmp_path):
    path = log(tmp_path, "when;in;out;who", "0;10;5;a", "1;20;6;b")
    found = read(path, arrival="when", prompt="in", output="out", session="who")
    assert found.columns == {"arrival": "when", "prompt": "in", "output": "out", "session": "who"}
    assert list(found.table["prompt"]) == [10, 20]
    with pytest.raises(
        ValueError, match=r"columns.arrival=NAME and which prompt: .*the file has when, in, out, who"
    ):
        read(path)
    with pytest.raises(ValueError, match="workload.source.columns.output='outt': must be one of when, in"):
        read(path, arrival="when", prompt="in", output="outt")


def test_what_was_not_answered_is_left_out_counted_and_said(tmp_path):
    rows = [f"{n},{100 + n},{n % 5}" for n in range(20)] + ["20,0,5", "21,7000,9", "22,50,"]
    workload = from_file(
        "csv",
        log(tmp_path, "ts,input_tokens,output_tokens", *rows),
        fit="truncate",
        name="csv",
        num_requests=None,
    )
    trace = freeze_trace(workload, 0, 32000, 4096)
    assert (workload.name, len(trace.requests), trace.meta["without_output"]) == ("access", 17, 5)
    assert left_out_line(trace) == (
        "access: 17 of 23 rows are requests over 20 s (0.85 req/s; columns ts, input_tokens, output_tokens); "
        "5 without an output left out; 1 without a prompt left out; "
        "1 of 17 requests cut to fit engine.max_model_len=4096"
    )


def test_prompts_of_a_session_go_on_where_they_ended_and_classes_and_limits_are_kept(tmp_path):
    path = log(
        tmp_path, "time,prompt_tokens,output_tokens,session_id,class,max_tokens",
        "0,64,5,a,chat,100", "1,64,5,b,chat,", "2,160,5,a,code,200",
    )  # fmt: skip
    trace = freeze_trace(from_file("csv", path, declared=DeclaredConfig(kind="fixed")), 0, 32000, 4096)
    first, other, second = (request.prompt_token_ids for request in trace.requests)
    assert (second[:64] == first).all() and not (other == first).all()
    assert [request.kind for request in trace.requests] == ["chat", "chat", "code"]
    assert [request.max_tokens for request in trace.requests] == [100, 5, 200]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            ["yesterday,1,1", "0,1,1", "1,1,1"],
            "record 1: time='yesterday' is no time like the others, which are numbers",
        ),
        (["0,1,1", "1,1,1", "yesterday,1,1"], "record 3: time='yesterday'"),
        (
            ["2026-11-01,1,1", "2026-11-02,1,1", "28/Mar/2026,1,1"],
            "record 3: time='28/Mar/2026' .* are ISO 8601",
        ),
        (["28/Mar/2026,1,1", "29/Mar/2026,1,1"], "record 1: .* is no time: ISO 8601"),
        (["0,1,1", ",,", "1,1,1", ",1,1"], "record 4: time is empty"),
        (["0,1,1", "1,1,inf"], "record 2: output_tokens='inf' is no number of tokens"),
        (["0,1,1", "1,1,1e18"], "record 2: output_tokens='1e18' is no number of tokens"),
        (["0,1,1,/v1", "1,1,1,/v1"], "rows have as many fields as its first line has names, 3"),
        (["0,1,1"], "two answered requests at least"),
        (["0,1,1", "1,many,1"], "record 2: prompt_tokens='many' is no number of tokens"),
        (["0,1,0", "1,1,0"], "of 2 rows 2 have no output tokens"),
        ([], "of 0 rows"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        read(log(tmp_path, "time,prompt_tokens,output_tokens", *rows))


def test_names_are_known_however_they_are_written_and_units_behind_a_time_count(tmp_path):
    for header in (
        "Arrival Time, Prompt Tokens ,Output Tokens", "startTime,promptTokens,completionTokens", "TS,INPUT_TOKENS,OUTPUT-TOKENS",
        "timestamp,gen_ai.usage.input_tokens,gen_ai.usage.output_tokens",
    ):  # fmt: skip
        assert list(read(log(tmp_path, header, "0,10,5", "4,20,6")).table["seconds"]) == [0, 4]
    milliseconds = read(log(tmp_path, "time_ms,prompt_tokens,output_tokens", "500,10,5", "4500,20,6"))
    assert list(milliseconds.table["seconds"]) == [0, 4]


def test_empty_lines_and_a_sheets_empty_rows_are_none_and_the_header_may_come_after_them(tmp_path):
    path = log(tmp_path, "\n\ntime;prompt_tokens;output_tokens", "0;10;5", "", ";;", "4;20;6")
    assert read(path).rows == 2 and list(read(path).table["prompt"]) == [10, 20]


def test_of_two_columns_of_one_name_none_is_taken_in_silence(tmp_path):
    with pytest.raises(ValueError, match="a file with one column output_tokens: it has 2"):
        read(log(tmp_path, "time,prompt_tokens,output_tokens,output_tokens", "0,1,1,7", "1,1,1,7"))


def test_times_that_cannot_be_the_servers_are_said_or_refused(tmp_path):
    def line(*times: str) -> str:
        path = log(tmp_path, "time,prompt_tokens,output_tokens", *(f"{t},10,5" for t in times))
        return left_out_line(
            freeze_trace(from_file("csv", path, name="csv", num_requests=None), 0, 32000, 4096)
        )

    assert "coarse: 2 different ones, up to 10 requests at once" in line(*["0"] * 10, *["60"] * 10)
    assert "nothing arrives for 56.1 years of it" in line("0", *(str(1.77e9 + n) for n in range(20)))
    assert line(*(str(n) for n in range(20))).endswith("output_tokens)")
    with pytest.raises(ValueError, match="arrive at different times: all have the same time"):
        line("7", "7", "7")
