"""`bidkv-explain`: what a recording says is what is told, and it adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bidkv.adapters.shared.recording.engine import FORMAT, STEP
from bidkv.adapters.shared.recording.lives import CAUSES
from tracking.explain import explain
from tracking.explaining.causes import BY_NAME, DERIVED
from tracking.explaining.findings import measures, sentence
from tracking.explaining.page import page
from tracking.explaining.render import notes
from tracking.recorded.read import Steps

ROOT = Path(__file__).resolve().parents[2]
T0 = 1_790_000_000.0
HEAD = {
    "type": "recording", "format": FORMAT, "steps": list(STEP), "causes": list(CAUSES), "begun_t": T0, "engine": "vllm",
    "engine_version": "0.32.0", "model": "m", "num_blocks": 100, "block_size": 16, "hash_block_size": 16,
    "max_num_seqs": 8, "prefix_caching": True,
}  # fmt: skip


def step(t: float, dur: float, prompts: int, decodes: int) -> list[Any]:
    """Durations of a machine that takes 10 ms a step, 1 ms a request that decodes and 0.1 ms a prompt token."""
    return [t, dur, prompts, decodes, int(prompts > 0), decodes, 100 * decodes, 0, 4, 0, 50, 0, "intake"]


def request(
    name: str, arrival: float, to_first: dict[str, float], decode: float, **more: Any
) -> dict[str, Any]:
    first = arrival + sum(to_first.values())
    start = first - to_first["prefill"]
    record = {
        "type": "request", "id": name, "arrival_t": arrival, "prompt": 100, "output": 50, "max_tokens": 64, "executed": 149,
        "recomputed": 0, "cached": 0, "cached_resume": 0, "restored": 0, "restored_resume": 0, "preemptions": 0,
        "first_scheduled_t": start, "finish_t": first + decode, "reason": "length", "first_token_t": first,
        "seconds": {**to_first, "decode": decode}, "to_first": to_first, "decodes": [[first, first + decode]], "blocks": [],
    }  # fmt: skip
    return record | more


def write(folder: Path, records: list[Any], start: str = "20260921T000000-0000", **head: Any) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in [HEAD | head, *records])
    (folder / f"recording-dp0-{start}-000001.jsonl").write_text(text)


def machine(count: int) -> list[list[Any]]:
    """Steps in a row, every fourth with a prompt of 300 tokens."""
    steps, t = [], T0
    for number in range(count):
        prompts, decodes = (300 if number % 4 == 0 else 0), 1 + number % 3
        steps.append(step(t, 0.010 + 0.001 * decodes + 0.0001 * prompts, prompts, decodes))
        t += steps[-1][1]
    return steps


def test_every_cause_has_its_words() -> None:
    assert set(BY_NAME) == {*CAUSES, *DERIVED}


def test_what_is_told_is_what_was_recorded(tmp_path: Path) -> None:
    waits = {"intake": 0.1, "behind": 6.0, "memory": 1.0, "seat": 0.9, "prefill": 2.0}
    quick = {"intake": 0.1, "prefill": 0.9}
    requests = [request(f"q{n}", T0 + n, quick, 1.0) for n in range(90)]
    requests += [request(f"w{n}", T0 + n, waits, 2.0) for n in range(10)]
    write(tmp_path / "r", requests)
    _, found = explain(str(tmp_path / "r"))
    assert found.worst_gap < 1e-6
    columns = {column.name: column for column in measures(found)}
    assert columns["mean TTFT"].seconds == pytest.approx(1.9)
    assert columns["mean TTFT"].shares["behind"] == pytest.approx(60 / 190)
    assert columns["p99 TTFT"].requests == 10
    assert columns["p99 TTFT"].shares["behind"] == pytest.approx(0.6)
    assert columns["p99 E2E"].shares["decode"] == pytest.approx(2 / 12)
    text = "60% of p99 TTFT is waiting behind the first in line; memory, not compute, is what you lack (70%)."
    assert sentence(found) == text


def test_where_nobody_waits_it_says_so(tmp_path: Path) -> None:
    write(
        tmp_path / "r", [request(f"q{n}", T0 + n, {"intake": 0.01, "prefill": 0.9}, 1.0) for n in range(30)]
    )
    assert (
        sentence(explain(str(tmp_path / "r"))[1])
        == "99% of p99 TTFT is prefill: nobody waits for memory or a seat."
    )


def test_prompts_of_others_slow_a_decode_by_what_they_take(tmp_path: Path) -> None:
    steps = machine(400)
    end = steps[-1][0] + steps[-1][1]
    whole = request("whole", T0 - 1.0, {"prefill": 1.0}, end - T0)
    half = request("half", T0 - 1.0, {"prefill": 1.0}, steps[200][0] - T0)
    write(tmp_path / "r", [*steps, whole, half])
    _, found = explain(str(tmp_path / "r"))
    slowed = 0.030 * np.array([100, 50])
    assert found.e2e["slowed"].to_numpy() == pytest.approx(slowed, rel=0.02)
    assert found.worst_gap < 1e-6


def test_a_beginning_that_was_there_and_is_computed_again_is_told(tmp_path: Path) -> None:
    """A turn of 160 tokens whose first 96 an earlier one had computed; 32 of them were still in the cache."""
    first = request("a", T0, {"prefill": 1.0}, 1.0, prompt=90, blocks=[0, 6])
    second = request("b", T0 + 10, {"prefill": 1.0}, 1.0, prompt=160, cached=32, blocks=[0, 6, 20, 6])
    early = request(
        "c", T0 + 1, {"prefill": 1.0}, 1.0, prompt=160, blocks=[0, 6]
    )  # before the first one ended
    write(tmp_path / "r", [first, early, second])
    _, found = explain(str(tmp_path / "r"))
    assert found.requests["again_tokens"].tolist() == [0, 0, 64]
    assert found.e2e["again"].tolist() == pytest.approx([0, 0, 0.5])
    assert found.e2e["prefill"].tolist() == pytest.approx([1, 1, 0.5])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracking.explain", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


def test_the_command_prints_80_columns_a_page_and_json(tmp_path: Path) -> None:
    long = {"prefill": 2.0, "behind": 3.0}
    requests = [request(f"q{n}", T0 + 600 * n, long, 1.0, prompt=100 * n + 1) for n in range(40)]
    killed = tmp_path / "r" / "recording-dp0-20260921T000000-0000-000002.jsonl"
    write(tmp_path / "r", requests)
    killed.write_text(json.dumps(HEAD) + "\n" + json.dumps(requests[0])[:50])
    done = run(str(tmp_path / "r"), "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    *lines, written = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and written == f"written: {tmp_path / 'page.html'}"
    assert "60% of p99 TTFT is waiting behind the first in line" in " ".join(done.stdout.split())
    assert "prompt < 2k" in done.stdout and "09-21" in done.stdout and "1 lines are not whole" in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert "60% of p99 TTFT is waiting behind the first in line" in page and "prompt &lt; 2k" in page
    data = json.loads(run(str(tmp_path / "r"), "--format", "json").stdout)
    assert data["requests"] == 40 and data["worst_gap"] < 1e-6 and len(data["hour"]) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "folder='nowhere': must be a folder that a server recorded into"),
        (["."], "folder='.': must be a folder with recordings in which requests ended"),
        ([".", "--html", ""], "--html='': must be a file's name"),
        ([".", "--html", "page.txt"], "--html='page.txt': must be a name that ends in .html"),
    ],
)
def test_what_cannot_be_explained_is_one_line(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {words}"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"5", b"null", b'"x"', b'{"type":["request"]}', b'{"type":"request"}', b"[1,2,3]", b"[" * 100_000, b"\0" * 500,
        b"\xff\xfe", json.dumps(["a", *step(T0, 0.1, 0, 1)[1:]]).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, seconds={"prefill": float("nan")})).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, decodes=[5])).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, blocks=[1, "2"])).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, blocks=[0, 10**12])).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, blocks=[-5, 1])).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, prompt=10**30)).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0, output=True)).encode(),
        json.dumps(request("r", -1e18, {"prefill": 1.0}, 1.0)).encode(),
        json.dumps(request("r", T0, {"prefill": 1.0}, 1.0)).replace(str(T0 + 2), "1e999").encode(),
        json.dumps([*step(T0, 0.1, 0, 1)[:-1], ["seat"]]).encode(), json.dumps([*step(T0, 0.1, 0, 1)[:-1], "sea"]).encode(),
        b'{"type":"strategy","t":1,"kill_switch":false}', b'{"type":"strategy","t":1,"strategy":"lcf"}',
        b'{"type":"strategy","t":1,"strategy":"lcf","kill_switch":false,"params":5}',
        b'{"type":"arrival","arrival_t":1,"t":1,"id":["x"]}', b'{"type":"preempt","t":1}',
        json.dumps(HEAD | {"hash_block_size": 0}).encode(),
        *(json.dumps({key: value for key, value in HEAD.items() if key != gone}).encode() for gone in ("prefix_caching", "model")),
    ],
)  # fmt: skip
def test_a_line_that_is_no_record_is_counted_and_left_out(tmp_path: Path, line: bytes) -> None:
    folder = tmp_path / "recording"
    write(folder, [*machine(60), *(request(f"r{n}", T0 + n, {"prefill": 1.0}, 1.0) for n in range(20))])
    (path,) = folder.iterdir()
    head, *others = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([head, line, *others]) + b"\n")
    (recorded,), found = explain(str(folder))
    assert (recorded.unread, len(found.requests), len(recorded.steps)) == (1, 20, 60)


def test_a_table_of_steps_is_numbers_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "AT_ONCE", 4)
    for count in (0, 3, 4, 8, 9):
        steps = Steps()
        for row in machine(count):
            steps.add(row)
        table = steps.table()
        assert len(table) == count and list(table.columns) == list(STEP)
        assert not count or {str(table[name].dtype) for name in STEP[2:-1]} == {"int32"}
        assert list(table["t"]) == [row[0] for row in machine(count)]


def test_a_number_that_four_bytes_cannot_hold_stays_what_it_is() -> None:
    steps = Steps()
    steps.add([*step(T0, 0.1, 0, 1)[:6], 5 * 10**9, *step(T0, 0.1, 0, 1)[7:]])
    assert steps.table()["context_tokens"].tolist() == [5 * 10**9]


def strategy(name: str, kill_switch: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": "strategy", "t": T0, "strategy": name, "kill_switch": kill_switch, **more}


@pytest.mark.parametrize(
    ("decided", "words"),
    [
        ([strategy("stock")], None),
        ([strategy("lcf", kill_switch=True)], None),
        ([strategy("stock", admission="fcfs", victim="lifo", retention="lru")], None),
        ([strategy("stock", admission="sjf")], "recorded under stock with admission sjf"),
        (
            [strategy("lcf-guard", params={"max_preemptions": 3}), strategy("lcf-guard", kill_switch=True)],
            'recorded under lcf-guard with params {"max_preemptions": 3}, stock',
        ),
    ],
)
def test_under_what_was_recorded_is_said_with_all_that_was_replaced(
    tmp_path: Path, decided: list[dict[str, Any]], words: str | None
) -> None:
    write(tmp_path / "r", [*decided, request("q", T0, {"prefill": 1.0}, 1.0)])
    said = [note for note in notes(*explain(str(tmp_path / "r"))) if note.startswith("recorded under")]
    assert said == ([] if words is None else [words])


def test_servers_that_are_added_together_are_named(tmp_path: Path) -> None:
    one = [request("q", T0, {"prefill": 1.0}, 1.0)]
    write(tmp_path / "r", one)
    write(tmp_path / "r", one, "20260921T000001-0000")
    assert not any("servers" in note for note in notes(*explain(str(tmp_path / "r"))))
    write(tmp_path / "r", one, "20260921T000002-0000", engine="sglang", engine_version="0.5.23")
    both = explain(str(tmp_path / "r"))
    assert page(*both).title == "Where the latency of several servers is lost"
    said = [note for note in notes(*both) if "servers" in note]
    assert said == [
        "several servers together: sglang 0.5.23 m, vllm 0.32.0 m; a folder of its own tells each apart"
    ]


def test_what_is_no_file_holds_up_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    write(folder, [request("r", T0, {"intake": 0.8, "prefill": 0.2}, 1.0)])
    os.mkfifo(folder / "recording-dp0-20260921T000001-0000-000001.jsonl")
    (folder / "recording-dp0-20260921T000002-0000-000001.jsonl").mkdir()
    recordings, found = explain(str(folder))
    assert len(recordings) == 1
    assert sentence(found).startswith("80% of p99 TTFT is on its way into a step: nobody waits")
