"""Readers of public data, on small files of the same form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_workload import freeze, from_file

from ray_jobs.workload.config import ArrivalConfig, WorkloadConfig
from ray_jobs.workload.session_config import SessionsConfig
from ray_jobs.workload.sources.kv_cache_tester import sessions as read_sessions


def entry(t: float, tokens: int, out: int, ids: list[int], **more) -> dict:
    return {"t": t, "type": "s", "in": tokens, "out": out, "hash_ids": ids, "api_time": 2.0} | more


def agent(t: float, requests: list[dict], duration_ms: int | None, status: str) -> dict:
    return {"t": t, "type": "subagent", "requests": requests, "duration_ms": duration_ms, "status": status}


def trace_file(folder: Path, name: str = "trace_0001", requests: list[dict] | None = None) -> Path:
    """A conversation of four turns; its second answer starts a sub-agent that the third waits for."""
    if requests is None:
        requests = [
            entry(0.0, 150, 20, [1, 2], think_time=0.0),
            entry(12.0, 330, 30, [1, 2, 3, 4, 5], think_time=10.0),
            agent(34.0, [entry(0.0, 70, 9, [20]), entry(9.0, 140, 8, [20, 21])], 15_000, "completed"),
            agent(15.0, [entry(0.0, 64, 7, [30])], None, "async_launched"),
            entry(40.0, 400, 40, [1, 2, 3, 4, 5, 6], think_time=26.0),
            entry(60.0, 100, 5, [1], think_time=None),  # the context was summed up
        ]
    record = {"id": name, "block_size": 64, "hash_id_scope": "local", "requests": requests}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record))
    return path


def agents_of(path: Path, **more) -> WorkloadConfig:
    fields = {
        "arrivals": ArrivalConfig(kind="sessions"),
        "sessions": SessionsConfig(count=1),
        "rate": 1.0,
        "pick": "head",
    }
    return from_file("kv_cache_tester", path, **{**fields, **more})


def test_kv_cache_tester_turns_share_what_their_hash_ids_share(tmp_path) -> None:
    trace = freeze(agents_of(trace_file(tmp_path).parent))
    main = [r for r in trace.requests if r.kind == "kv_cache_tester"]
    assert [len(r.prompt_token_ids) for r in main] == [150, 330, 400, 100]
    assert [r.output_tokens for r in main] == [20, 30, 40, 5]
    first, second, third, fourth = (r.prompt_token_ids for r in main)
    assert np.array_equal(second[:150], first)  # its rest is the front of the block that follows there
    assert np.array_equal(third[:330], second)
    assert np.array_equal(fourth[:64], first[:64]) and not np.array_equal(fourth[64:100], first[64:100])


def test_kv_cache_tester_sub_agents_and_think_times(tmp_path) -> None:
    trace = freeze(agents_of(trace_file(tmp_path)))
    by_id = {r.request_id.split("-")[-1]: r for r in trace.requests}
    order = [by_id[f"{i:04d}"] for i in range(7)]
    parents = [[p.split("-")[-1] for p in r.parents] for r in order]
    assert parents == [[], ["0000"], ["0001"], ["0002"], ["0001"], ["0001", "0003"], ["0005"]]
    assert [r.turn for r in order] == [0, 1, 0, 1, 0, 2, 3]
    # Back at 34 s after 15 s: begun at 19 s, 5 s after the answer at 14 s. The other began at 15 s.
    assert [r.think_time_s for r in order] == [0, 10, 5, 7, 1, 26, 18]
    assert len({r.session for r in order}) == 1


def test_kv_cache_tester_sharing_survives_scaling(tmp_path) -> None:
    trace = freeze(agents_of(trace_file(tmp_path), length_scale=1 / 8))
    first, second, third, _ = (r.prompt_token_ids for r in trace.requests if r.kind == "kv_cache_tester")
    assert [len(first), len(second)] == [2 * 8 + 3, 5 * 8 + 1]
    assert np.array_equal(second[: len(first)], first) and np.array_equal(third[: len(second)], second)


def test_kv_cache_tester_hash_ids_are_a_files_own(tmp_path) -> None:
    for name in ("a", "b"):
        trace_file(tmp_path, name)
    trace = freeze(agents_of(tmp_path, sessions=SessionsConfig(count=2)))
    a, b = (r.prompt_token_ids for r in trace.requests if r.turn == 0 and not r.parents)
    assert len(a) == len(b) and not np.array_equal(a[:64], b[:64])
    with pytest.raises(ValueError, match="workload.sessions.count=3: must be <= 2, the usable sessions of"):
        freeze(agents_of(tmp_path, sessions=SessionsConfig(count=3)))


def test_kv_cache_tester_picks_sessions(tmp_path) -> None:
    for number in range(9):
        trace_file(tmp_path, f"t{number}", [entry(0.0, 64 + number, 3, [1])])

    def lengths(pick: str, seed: int = 0) -> list[int]:
        config = agents_of(tmp_path, pick=pick)
        return [len(session[0].draft.prompt) - 64 for session in read_sessions(config, seed, 1000)]

    assert lengths("head") == list(range(9))
    assert sorted(lengths("random")) == list(range(9)) != lengths("random") == lengths("random")
    with pytest.raises(ValueError, match="workload.source.pick='window': must be random or head"):
        lengths("window")
    assert lengths("random", seed=1) != lengths("random")


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([entry(0.0, 150, 3, [1])], "1 hash ids for 150 tokens"),
        ([{"t": 0.0, "type": "s"}], "trace_0001.json: KeyError"),
    ],
)
def test_bad_kv_cache_tester_files(tmp_path, requests: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(agents_of(trace_file(tmp_path, requests=requests)))


def test_a_folder_without_traces_is_named(tmp_path) -> None:
    for config in (agents_of(tmp_path), servegen(tmp_path)):
        with pytest.raises(ValueError, match="workload.source.path=.*must be a folder with"):
            freeze(config)


def servegen(folder: Path, **more) -> WorkloadConfig:
    return from_file("servegen", folder, **{"num_requests": 400, "pick": "head", **more})


def client(folder: Path, number: int, windows: list[str], prompts: dict, outputs: dict) -> None:
    lines = [f"{600 * i},{window}" for i, window in enumerate(windows)]
    (folder / f"chunk-{number}-trace.csv").write_text("\n".join(lines) + "\n")
    lengths = {"input_tokens": str(prompts), "output_tokens": str(outputs), "reason_ratio": "{0.5: 1.0}"}
    (folder / f"chunk-{number}-dataset.json").write_text(json.dumps({"0": lengths}))


@pytest.fixture
def pool(tmp_path) -> Path:
    """A steady client, a bursty one that asks for long outputs, and one that is silent."""
    client(tmp_path, 0, ["0.5,0.5,Gamma,4.0,0.5"] * 4, {10: 0.5, 30: 0.5}, {5: 1.0})
    client(tmp_path, 1, ["0.25,2.0,Weibull,0.5,2.0"] * 2 + ["0,0,,0,0"] * 2, {100: 1.0}, {400: 0.5, 800: 0.5})
    client(tmp_path, 2, ["0,0,,0,0"] * 4, {}, {})
    return tmp_path


def test_servegen_clients_have_their_own_rates_and_lengths(pool) -> None:
    trace = freeze(servegen(pool), model_len=4096)
    assert len(trace.requests) == 400 and trace.requests[0].arrival_s == 0.0
    steady = [r for r in trace.requests if r.output_tokens == 5]
    bursty = [r for r in trace.requests if r.output_tokens in (400, 800)]
    assert len(steady) + len(bursty) == 400
    assert {len(r.prompt_token_ids) for r in steady} == {10, 30}
    assert {len(r.prompt_token_ids) for r in bursty} == {100}
    span = trace.requests[-1].arrival_s
    assert len(steady) / span == pytest.approx(0.5, rel=0.15)

    def variation(requests) -> float:
        gaps = np.diff([r.arrival_s for r in requests])
        return gaps.std() / gaps.mean()

    assert variation(steady) == pytest.approx(0.5, abs=0.12) and variation(bursty) > 1.3


def test_servegen_follows_the_day_and_the_seed(pool) -> None:
    whole = freeze(servegen(pool, num_requests=1400), model_len=4096)
    late = [r for r in whole.requests if r.arrival_s > 1250]
    assert len(late) > 300 and all(r.output_tokens == 5 for r in late)  # the other one is silent by then
    few = freeze(servegen(pool, num_requests=100), model_len=4096)
    assert [r.output_tokens for r in few.requests] == [r.output_tokens for r in whole.requests[:100]]
    assert freeze(servegen(pool), seed=1, model_len=4096).hash != freeze(servegen(pool), model_len=4096).hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_requests": 100_000}, "workload.num_requests=100000: must be <= "),
        ({"num_requests": None}, "workload.num_requests=None: must be a number for ServeGen"),
    ],
)
def test_servegen_gives_as_many_as_asked_or_says_how_many(pool, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(servegen(pool, **change), model_len=4096)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("chunk-0-trace.csv", "0,1.0,1.0,Pareto,1.0,1.0\n", "chunk-0-trace.csv: line 1 is no window"),
        ("chunk-0-dataset.json", '{"0": {"input_tokens": "{1: 1.0}"}}', "chunk-0-dataset.json: KeyError"),
        ("chunk-0-dataset.json", "{", "chunk-0-dataset.json: JSONDecodeError"),
    ],
)
def test_bad_servegen_files(pool, name: str, text: str, message: str) -> None:
    (pool / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        freeze(servegen(pool), model_len=4096)


BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
60,GPT-4,90,0,90,API log
118,GPT-4,417,276,693,Conversation log
"""


def test_burstgpt_leaves_out_what_failed(tmp_path) -> None:
    path = tmp_path / "BurstGPT_1.csv"
    path.write_text(BURSTGPT)
    trace = freeze(from_file("burstgpt", path))
    assert [len(r.prompt_token_ids) for r in trace.requests] == [472, 1087, 417]
    assert [r.output_tokens for r in trace.requests] == [18, 230, 276]
    assert [r.arrival_s for r in trace.requests] == [0.0, 40.0, 113.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,in\n1,2\n", "a CSV file with the columns Timestamp, Request tokens, Response tokens"),
        (BURSTGPT.replace("1087,230", "many,230"), "record 2: it needs a time"),
        ("\n".join(BURSTGPT.splitlines()[::3][:1] + ["1,GPT-4,5,0,5,API log"]), "at least one answered"),
    ],
)
def test_bad_burstgpt_files(tmp_path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        freeze(from_file("burstgpt", tmp_path / "bad.csv"))


def test_azure_2024_has_the_columns_of_2023_and_a_time_zone(tmp_path) -> None:
    path = tmp_path / "AzureLLMInferenceTrace_code_1week.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 00:00:01+00:00,2399,6\n"
    )
    trace = freeze(from_file("azure", path))
    assert [(len(r.prompt_token_ids), r.output_tokens) for r in trace.requests] == [(2162, 5), (2399, 6)]
    assert trace.requests[1].arrival_s == pytest.approx(0.99007)


def test_mooncake_toolagent_has_the_form_of_the_conversations(tmp_path) -> None:
    path = tmp_path / "toolagent_trace.jsonl"
    records = [
        {"timestamp": t, "input_length": 700, "output_length": 9, "hash_ids": [0, t + 1]} for t in (0, 3000)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    a, b = (r.prompt_token_ids for r in freeze(from_file("mooncake", path)).requests)
    assert np.array_equal(a[:512], b[:512]) and not np.array_equal(a[512:], b[512:])
