from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers_workload import TRACES, freeze, from_file

from ray_jobs.workload.config import ArrivalConfig, DeclaredConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.sources.shared.text import make_encoder

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.1951690,30,5
"""
CAP = {"declared": DeclaredConfig(max_tokens=2048)}


def real(name: str):
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"needs the public trace {path}")
    return path


def lines(path, records) -> str:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("azure", b"\xff\xfeTIMESTAMP", "text in UTF-8"),
        ("azure", b"", "a table"),
        ("burstgpt", b"", "a table"),
        ("mooncake", b"", "a file with requests in it"),
        ("mooncake", b"\xff{}", "text in UTF-8"),
        ("sharegpt", b"\xff[]", "text in UTF-8"),
        ("longbench", b"", "at least one usable record"),
    ],
)
def test_a_file_that_is_none_is_named(kind, content, words, tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        freeze(from_file(kind, path))
    assert "workload.source.path" in str(caught.value) and str(path) in str(caught.value)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_sweep_reads_a_file_once(tmp_path, monkeypatch) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    parsed, workload = {}, from_file("azure", path)
    first = freeze_trace(workload, 0, 1000, 4096, parsed)
    path.unlink()
    again = freeze_trace(replace(workload, rate=9.0), 1, 1000, 4096, parsed)
    assert [r.output_tokens for r in first.requests] == [r.output_tokens for r in again.requests]


def test_azure_lengths_and_times(tmp_path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    trace = freeze(from_file("azure", path))
    assert [(len(r.prompt_token_ids), r.output_tokens) for r in trace.requests] == [
        (374, 44),
        (396, 109),
        (30, 5),
    ]
    assert [r.arrival_s for r in trace.requests] == pytest.approx([0.0, 4.314579, 4.514579])
    assert trace.meta["file"] == "azure.csv" and len(trace.meta["file_sha256"]) == 64
    fast = freeze(from_file("azure", path, arrivals=ArrivalConfig(kind="replay", time_scale=0.1)))
    assert fast.requests[-1].arrival_s == pytest.approx(0.4514579)


def test_a_recording_replayed_under_two_seeds_is_one_observation(tmp_path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    first, again = (freeze(from_file("azure", path), seed) for seed in (0, 1))
    assert first.hash != again.hash and first.shape == again.shape
    faster = freeze(from_file("azure", path, arrivals=ArrivalConfig(kind="replay", time_scale=0.5)), 0)
    assert faster.shape != first.shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,in,out\n1,2,3\n", "a CSV file with the columns TIMESTAMP, ContextTokens, GeneratedTokens"),
        (AZURE.replace("396", "many"), "record 2: it needs a time and token counts >= 1"),
        (AZURE.replace("30,5", "30,0"), "record 3"),
        (AZURE.replace("2023-11-16 18:15:46.6805900", "soon"), "record 1"),
    ],
)
def test_bad_azure_files(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        freeze(from_file("azure", path))
    assert "workload.source.path=" in str(caught.value)


def test_a_window_moves_with_the_seed_and_stays_in_order(tmp_path) -> None:
    path = tmp_path / "azure.csv"
    rows = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.0,{n + 1},9" for n in range(300)]
    path.write_text("\n".join([AZURE.splitlines()[0], *rows]))
    starts = set()
    for seed in range(6):
        trace = freeze(from_file("azure", path, num_requests=50, pick="window"), seed)
        lengths = [len(r.prompt_token_ids) for r in trace.requests]
        assert lengths == list(range(lengths[0], lengths[0] + 50))
        assert trace.meta["rows"] == [lengths[0] - 1, lengths[0] + 49, 300]
        starts.add(lengths[0])
    assert starts == {1, 51, 101, 151, 201, 251}
    head = freeze(from_file("azure", path, num_requests=50, pick="head"), 3)
    assert [len(r.prompt_token_ids) for r in head.requests] == list(range(1, 51))
    thinned = freeze(from_file("azure", path, num_requests=50, pick="random"), 3)
    lengths = [len(r.prompt_token_ids) for r in thinned.requests]
    assert lengths == sorted(set(lengths)) and max(lengths) - min(lengths) > 150
    poisson = {"pick": "random", "arrivals": ArrivalConfig(kind="poisson")}
    lengths = [
        len(r.prompt_token_ids)
        for r in freeze(from_file("azure", path, num_requests=50, **poisson), 3).requests
    ]
    assert lengths != sorted(lengths) and len(set(lengths)) == 50
    with pytest.raises(ValueError, match="workload.num_requests=301: must be <= 300"):
        freeze(from_file("azure", path, num_requests=301))


@pytest.mark.parametrize("name", ["azure2023_conv.csv", "azure2023_code.csv"])
def test_the_real_azure_files(name: str) -> None:
    path = real(name)
    trace = freeze(from_file("azure", path, num_requests=None, **CAP), vocab=32_000, model_len=20_000)
    rows = path.read_text().splitlines()[1:]
    assert len(trace.requests) == len(rows)
    assert sum(len(r.prompt_token_ids) for r in trace.requests) == sum(int(row.split(",")[1]) for row in rows)
    assert sum(r.output_tokens for r in trace.requests) == sum(int(row.split(",")[2]) for row in rows)


def block_record(time_ms: int, length: int, ids: list[int], output: int = 5) -> dict:
    return {"timestamp": time_ms, "input_length": length, "output_length": output, "hash_ids": ids}


def test_mooncake_shares_what_its_hash_ids_share(tmp_path) -> None:
    path = lines(
        tmp_path / "mooncake.jsonl",
        [
            block_record(0, 1100, [0, 1, 2], output=7),
            block_record(500, 1024, [0, 1], output=9),
            block_record(2000, 1540, [0, 1, 2, 7]),
        ],
    )
    a, b, c = (r.prompt_token_ids for r in freeze(from_file("mooncake", path)).requests)
    assert (len(a), len(b), len(c)) == (1100, 1024, 1540)
    assert np.array_equal(a[:1024], b)
    assert np.array_equal(a, c[:1100])  # its partial last block is the front of the other's whole one
    assert not np.array_equal(a[:512], a[512:1024])
    times = [r.arrival_s for r in freeze(from_file("mooncake", path)).requests]
    assert times == [0.0, 0.5, 2.0]


def test_mooncake_sharing_survives_scaling_and_cutting(tmp_path) -> None:
    path = lines(
        tmp_path / "mooncake.jsonl", [block_record(0, 1100, [0, 1, 2]), block_record(1, 1536, [0, 1, 3])]
    )
    small = freeze(from_file("mooncake", path, length_scale=1 / 32))
    a, b = (r.prompt_token_ids for r in small.requests)
    assert (len(a), len(b)) == (34, 48)
    assert np.array_equal(a[:32], b[:32]) and not np.array_equal(a[32:], b[32:34])
    cut = freeze(from_file("mooncake", path, fit="truncate"), model_len=805)
    a, b = (r.prompt_token_ids for r in cut.requests)
    assert len(a) == 800 and np.array_equal(a, b)
    assert cut.meta["truncated"] == 2


def shared_length(a: np.ndarray, b: np.ndarray) -> int:
    size = min(len(a), len(b))
    differing = np.flatnonzero(a[:size] != b[:size])
    return int(differing[0]) if len(differing) else size


def test_real_mooncake_prompts_share_exactly_what_the_hash_ids_say() -> None:
    path = real("mooncake_conversation_trace.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()[:400]]
    trace = freeze(
        from_file("mooncake", path, num_requests=400, pick="head", **CAP), vocab=128_000, model_len=200_000
    )
    assert len(trace.requests) == 400
    shares = []
    for i in range(0, 400, 3):
        assert len(trace.requests[i].prompt_token_ids) == records[i]["input_length"]
        assert trace.requests[i].output_tokens == records[i]["output_length"]
        for j in range(i):
            ids_i, ids_j = records[i]["hash_ids"], records[j]["hash_ids"]
            same = next(
                (k for k, (x, y) in enumerate(zip(ids_i, ids_j, strict=False)) if x != y),
                min(len(ids_i), len(ids_j)),
            )
            expected = min(512 * same, records[i]["input_length"], records[j]["input_length"])
            got = shared_length(trace.requests[i].prompt_token_ids, trace.requests[j].prompt_token_ids)
            assert expected <= got <= expected + 3, (i, j)  # the next block may begin alike by chance
            shares.append(same)
    assert max(shares) > 2 and sum(s > 1 for s in shares) >= 10


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"timestamp": 0, "input_length": 5}, "record 2: KeyError"),
        (block_record(0, 1100, [0, 1]), "record 2: .*2 hash ids for 1100 tokens"),
        (block_record(0, 0, []), "record 2: .*must be >= 1"),
        (block_record(0, 10, [1], output=0), "record 2: .*must be >= 1"),
        ([], "record 2: TypeError"),
    ],
)
def test_bad_mooncake_records(tmp_path, record, message: str) -> None:
    path = lines(tmp_path / "mooncake.jsonl", [block_record(0, 100, [0]), record])
    with pytest.raises(ValueError, match=message):
        freeze(from_file("mooncake", path))


CONVERSATION = {
    "id": "x",
    "conversations": [
        {"from": "human", "value": "Why is the sky blue?"},
        {"from": "gpt", "value": "Because air scatters blue light most."},
        {"from": "human", "value": "Really?"},
    ],
}


def test_sharegpt_takes_the_first_exchange(tmp_path) -> None:
    odd = {"conversations": [{"from": "gpt", "value": "hello"}, {"from": "human", "value": "hi"}]}
    empty = {"conversations": []}
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps([odd, CONVERSATION, empty, CONVERSATION]))
    trace = freeze(from_file("sharegpt", path))
    assert [len(r.prompt_token_ids) for r in trace.requests] == [6, 6]
    assert [r.output_tokens for r in trace.requests] == [9, 9]  # "Because" and "scatters" are two pieces each
    assert np.array_equal(trace.requests[0].prompt_token_ids, trace.requests[1].prompt_token_ids)


def test_cnn_dm_and_longbench(tmp_path) -> None:
    news = lines(tmp_path / "news.jsonl", [{"article": "Rain fell. " * 20, "highlights": "It rained."}])
    (summary,) = freeze(from_file("cnn_dm", news)).requests
    assert summary.output_tokens == 3 and len(summary.prompt_token_ids) > 60
    documents = [
        {"context": "Bees fly. " * 30, "input": question, "answers": ["Yes", "no"]}
        for question in ("Do bees?", "Can they?")
    ]
    a, b = freeze(from_file("longbench", lines(tmp_path / "qa.jsonl", documents))).requests
    assert a.output_tokens == 1
    assert shared_length(a.prompt_token_ids, b.prompt_token_ids) == 90  # the same document, another question


def test_the_estimate_is_near_common_tokenizers() -> None:
    text = (
        "When memory runs out, a server must choose which of its running requests gives up its cache. "
        "The choice is usually made without much thought, yet it decides how long everybody waits."
    )
    assert 1.1 < len(make_encoder(None, 32_000)(text)) / len(text.split()) < 1.5


def test_a_tokenizer_file_is_used_when_given(tmp_path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    words = {"[UNK]": 0, "Why": 1, "is": 2, "the": 3, "sky": 4, "blue": 5, "?": 6}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = lines(tmp_path / "sharegpt.jsonl", [CONVERSATION])
    for where in (tmp_path, tmp_path / "tokenizer.json"):
        (request,) = freeze(from_file("sharegpt", path, tokenizer=str(where))).requests
        assert list(request.prompt_token_ids) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="at most engine.vocab_size=6 tokens, it has 7"):
        freeze(from_file("sharegpt", path, tokenizer=str(tmp_path)), vocab=6)
    with pytest.raises(ValueError, match="workload.source.tokenizer='nowhere'"):
        freeze(from_file("sharegpt", path, tokenizer="nowhere"))


def test_bad_text_files(tmp_path) -> None:
    path = tmp_path / "bad.json"
    for text, message in (
        ("{not json", "must be JSON or JSON Lines"),
        ("[1, 2", "must be JSON or JSON Lines"),
        (json.dumps([CONVERSATION, {"text": "x"}]), "record 2: no sharegpt record: KeyError 'conversations'"),
        (json.dumps([{"conversations": []}]), "with at least one usable record"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            freeze(from_file("sharegpt", path))


@pytest.mark.parametrize("kind", ["azure", "mooncake", "sharegpt", "cnn_dm", "longbench", "frozen"])
def test_a_missing_file_names_the_path_and_the_key(kind: str) -> None:
    with pytest.raises(ValueError, match="workload.source.path='no/such/file': must be an existing file"):
        freeze(from_file(kind, "no/such/file"))
