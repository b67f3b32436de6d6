"""What a recording of vLLM's real scheduler says: every request's seconds add up, and each cause where it belongs."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm")

from scheduler_bench import SchedulerBench
from server_bench import ServerBench
from vllm.lora.request import LoRARequest
from vllm.v1.request import RequestStatus

from bidkv.adapters.vllm.records.recorder import Recorder
from bidkv.adapters.vllm.scheduler import BidKVSchedulerMixin


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it moves it by a millisecond; requests arrive at its times from 0 on."""
    now = iter(range(10**9))
    monkeypatch.setattr(BidKVSchedulerMixin, "_bidkv_clock", staticmethod(lambda: next(now) * 1e-3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own" / "recording"


def records(folder: Path) -> list[Any]:
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.open()]
    assert lines[0]["type"] == "recording"
    return lines


def of_type(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in records(folder) if isinstance(record, dict) and record["type"] == kind]


def seconds(folder: Path) -> Counter[str]:
    total: Counter[str] = Counter()
    for request in of_type(folder, "request"):
        total.update(request["seconds"])
    return total


def check_sums(folder: Path) -> list[dict[str, Any]]:
    requests = of_type(folder, "request")
    for request in requests:
        e2e = request["finish_t"] - request["arrival_t"]
        assert sum(request["seconds"].values()) == pytest.approx(e2e, rel=1e-3, abs=1e-7), request
        if request["to_first"] is not None:
            ttft = request["first_token_t"] - request["arrival_t"]
            assert sum(request["to_first"].values()) == pytest.approx(ttft, rel=1e-3, abs=1e-7), request
        decoded = sum(end - start for start, end in request["decodes"])
        assert decoded == pytest.approx(request["seconds"].get("decode", 0.0), abs=1e-6)
    return requests


@pytest.mark.usefixtures("own_clock")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("strategy", ["stock", "backfill", "lcf-guard"])
def test_seconds_by_cause_add_up_under_pressure(
    tiny_model: Path, folder: Path, strategy: str, asynchronous: bool
) -> None:
    settings = {"strategy": strategy, "record": str(folder), "run_id": "r"}
    bench = SchedulerBench(tiny_model, settings, prefix_caching=True, asynchronous=asynchronous, seats=6)
    draw = random.Random(7)
    for index in range(40):
        bench.add(f"r{index}", [3 + index] * draw.randint(5, 250), draw.randint(1, 120))
        bench.step()
    bench.run()
    bench.scheduler.shutdown()
    requests = check_sums(folder)
    assert len(requests) == len(of_type(folder, "arrival")) == 40
    assert sum(request["preemptions"] for request in requests) == len(of_type(folder, "preempt")) > 0
    total = seconds(folder)
    for cause in ("memory", "behind", "preempted", "recompute", "prefill", "decode"):
        assert total[cause] > 0, total


@pytest.mark.parametrize("asynchronous", [False, True])
def test_steps_are_those_that_the_step_log_has(
    tiny_model: Path, folder: Path, tmp_path: Path, asynchronous: bool
) -> None:
    """Counted without going through who decodes, the sums are those that go through everybody."""
    log = tmp_path / "steps.jsonl"
    settings = {"strategy": "stock", "record": str(folder), "steps_path": str(log)}
    bench = SchedulerBench(tiny_model, settings, prefix_caching=True, asynchronous=asynchronous)
    draw = random.Random(3)
    for index in range(30):
        bench.add(f"r{index}", [3 + index % 3] * draw.randint(5, 250), draw.randint(1, 60))
        bench.step()
    bench.run()
    bench.scheduler.shutdown()
    names = records(folder)[0]["steps"]
    ours = [dict(zip(names, record, strict=True)) for record in records(folder) if isinstance(record, list)]
    theirs = [json.loads(line) for line in log.open()]
    theirs = [step for step in theirs if step["prefill_tokens"] + step["decode_tokens"] + step["preempted"]]
    same = (
        "prefill_tokens", "decode_tokens", "prefill_reqs", "decode_reqs", "prefill_context", "running", "waiting",
        "used_blocks", "preempted",
    )  # fmt: skip
    assert len(ours) == len(theirs) > 50
    for one, other in zip(ours, theirs, strict=True):
        assert {key: one[key] for key in same} == {key: other[key] for key in same}
        # Overlapping steps leave out who has its last token and whose output is on its way.
        assert one["context_tokens"] >= other["context_tokens"]
        assert one["t"] == pytest.approx(other["t"], abs=1e-5) and one["dur"] > 0
    context = [sum(step["context_tokens"] for step in steps) for steps in (ours, theirs)]
    assert context[1] <= context[0] <= context[1] * (1.1 if asynchronous else 1.0)
    assert sum(step["dur"] for step in ours) <= ours[-1]["t"] + ours[-1]["dur"] - ours[0]["t"] + 1e-3


@pytest.mark.usefixtures("own_clock")
def test_a_seat_a_grammar_and_an_adapter_are_told_apart(tiny_model: Path, folder: Path) -> None:
    settings = {"record": str(folder)}
    bench = ServerBench(tiny_model, "stock", seats=2, settings=settings, enable_lora=True, max_loras=1)
    lora = [LoRARequest(f"l{n}", n, f"adapter-{n}") for n in (1, 2)]
    grammar = SimpleNamespace(grammar=None, reasoning_end_token_index=None)
    bench.add("0", 40, 60, lora_request=lora[0])
    waits = bench.request("1", 40, 5)
    waits.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    waits.structured_output_request = grammar
    bench.scheduler.add_request(waits)
    bench.add("2", 40, 5, lora_request=lora[1])
    for _ in range(5):
        bench.step()
    bench.add("3", 40, 30)
    bench.add("4", 40, 5)
    for _ in range(20):
        bench.step()
    bench.scheduler.finish_requests("1", RequestStatus.FINISHED_ABORTED)
    bench.run()
    bench.scheduler.shutdown()
    requests = {request["id"]: request for request in check_sums(folder)}
    longest = {name: max(r["seconds"], key=r["seconds"].get) for name, r in requests.items()}
    assert longest == {"0": "decode", "1": "grammar", "2": "lora", "3": "decode", "4": "seat"}


def test_no_text_and_no_name_of_a_session_comes_into_the_folder(tiny_model: Path, folder: Path) -> None:
    settings = {"strategy": "stock", "record": str(folder)}
    bench = SchedulerBench(tiny_model, settings, prefix_caching=True)
    prompt = list(range(1000, 1100))
    bench.add("a", prompt, 40, session="alice@example.com")
    bench.run()
    bench.add("b", [*prompt, *range(1200, 1290)], 3, session="alice@example.com")
    bench.add("c", prompt, 3, session="bob")
    hashes = [content.hex() for request in bench.requests.values() for content in request.block_hashes]
    bench.run()
    bench.scheduler.shutdown()
    text = "".join(path.read_text() for path in folder.iterdir())
    assert "alice" not in text and not any(content in text for content in hashes)
    sessions = [record["session"] for record in of_type(folder, "arrival")]
    assert sessions[0] == sessions[1] != sessions[2]
    blocks = {request["id"]: request["blocks"] for request in of_type(folder, "request")}
    assert blocks == {
        "a": [0, 4],
        "b": [0, 3, 4, 3],
        "c": [0, 3],
    }  # 32 tokens each; the fourth of a has its answer


def test_what_fails_in_the_recorder_ends_the_recording_and_not_the_engine(
    tiny_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = SchedulerBench(tiny_model, {"strategy": "stock", "record": str(folder)})
    bench.add("a", [5] * 40, 20)
    bench.step()

    def wrong(self: Any, *facts: Any) -> None:
        raise KeyError("no such request")

    monkeypatch.setattr(Recorder, "processed", wrong)
    bench.run()
    assert bench.requests["a"].num_output_tokens == 20
    (warning,) = [r.getMessage() for r in caplog.records if "the recording has stopped" in r.getMessage()]
    assert "no such request" in warning
