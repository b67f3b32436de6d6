"""`workload=recorded`: a server's own requests, with the beginnings that they shared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_workload import freeze, from_file

from bidkv.adapters.shared.recording.engine import FORMAT, STEP

T0 = 1_790_000_000.0


def request(name: str, at: float, prompt: int, output: int, blocks: list[int], **more: Any) -> dict[str, Any]:
    return {
        "type": "request", "id": name, "arrival_t": T0 + at, "prompt": prompt, "output": output, "max_tokens": 64,
        "blocks": blocks, "finish_t": T0 + at + 1, "first_token_t": None, "first_scheduled_t": None, "to_first": None,
        "seconds": {"decode": 1.0}, "decodes": [], "executed": prompt + output, "cached": 0, "restored": 0,
        "preemptions": 0,
    } | more  # fmt: skip


REQUESTS = [
    request("a", 0.0, 70, 30, [0, 6]),  # 4 blocks of prompt, 2 of answer
    request("b", 0.5, 40, 5, [0, 2]),
    request("gone", 0.7, 40, 0, []),
    request("c", 2.0, 112, 9, [0, 6, 6, 1]),  # goes on from the answer to the first
    request("d", 1.0, 64, 9, [0, 2, 9, 2]),
]
ARRIVALS = [
    {"type": "arrival", "id": "b", "arrival_t": T0, "t": T0, "priority": 3},
    {"type": "arrival", "id": "unfinished", "arrival_t": T0, "t": T0, "priority": 0},
]


def folder(tmp_path: Path, records: tuple[Any, ...] = (*ARRIVALS, *REQUESTS), **head: Any) -> Path:
    first = {
        "type": "recording",
        "format": FORMAT,
        "steps": STEP,
        "hash_block_size": 16,
        "prefix_caching": True,
        **{"engine": "vllm", "engine_version": "0.32.0", "model": "m", "num_blocks": 100, "max_num_seqs": 8},
        **head,
    }
    text = "".join(json.dumps(record) + "\n" for record in [first, *records])
    (tmp_path / "recording-dp0-20260921T000000-0000-000001.jsonl").write_text(text)
    return tmp_path


def test_equal_numbers_are_equal_tokens_and_times_are_the_recorded_ones(tmp_path: Path) -> None:
    trace = freeze(from_file("recorded", folder(tmp_path)))
    a, b, d, c = (r.prompt_token_ids for r in trace.requests)
    assert [r.arrival_s for r in trace.requests] == [0, 0.5, 1, 2]
    assert [len(r.prompt_token_ids) for r in trace.requests] == [70, 40, 64, 112]
    assert [r.output_tokens for r in trace.requests] == [30, 5, 9, 9]
    assert [r.priority for r in trace.requests] == [0, 3, 0, 0]
    assert np.array_equal(c[:64], a[:64]) and not np.array_equal(c[64:70], a[64:])
    assert np.array_equal(b[:32], a[:32]) and np.array_equal(d[:32], a[:32])
    assert not np.array_equal(b[32:], a[32:40]) and not np.array_equal(d[32:40], a[32:40])


def test_without_a_prefix_cache_nothing_is_shared(tmp_path: Path) -> None:
    a, b, *_ = freeze(from_file("recorded", folder(tmp_path, prefix_caching=False))).requests
    assert not np.array_equal(a.prompt_token_ids[:32], b.prompt_token_ids[:32])


def test_the_start_with_the_most_requests_is_taken(tmp_path: Path) -> None:
    other = folder(tmp_path) / "recording-dp1-20260921T000000-0000-000001.jsonl"
    other.write_text((tmp_path / "recording-dp0-20260921T000000-0000-000001.jsonl").read_text())
    with other.open("a") as file:
        file.write(json.dumps(request("e", 9.0, 5, 5, [])) + "\n")
    assert len(freeze(from_file("recorded", tmp_path)).requests) == 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: place / "no", "must be a folder that a server recorded into"),
        (lambda place: place, "must be a folder with recordings in which requests ended"),
        (lambda place: folder(place, format="other"), "must be a recording in the format bidkv-recording-1"),
        (lambda place: folder(place, tuple(REQUESTS[:1])), "must be a recording with two answered requests"),
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"workload.source.path=.*{words}"):
        freeze(from_file("recorded", make(tmp_path)))
