"""What a recording of SGLang's real scheduler says: every request's seconds add up, and each cause where it belongs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bidkv.adapters.shared.recording.place import RecordingPlace

SMALL = {"page_size": 1, "chunked_prefill_size": 128}


@pytest.fixture
def place(tmp_path: Path) -> RecordingPlace:
    (tmp_path / "own").mkdir(mode=0o700)
    return RecordingPlace(str(tmp_path / "own" / "recording"))


def records(place: RecordingPlace) -> list[Any]:
    lines = [json.loads(line) for path in sorted(Path(place.folder).glob("*.jsonl")) for line in path.open()]
    assert lines[0]["type"] == "recording"
    return lines


def of_type(place: RecordingPlace, kind: str) -> list[dict[str, Any]]:
    return [record for record in records(place) if isinstance(record, dict) and record["type"] == kind]


def steps(place: RecordingPlace) -> list[dict[str, Any]]:
    names = records(place)[0]["steps"]
    return [dict(zip(names, line, strict=True)) for line in records(place) if isinstance(line, list)]


def seconds(place: RecordingPlace) -> Counter[str]:
    total: Counter[str] = Counter()
    for request in of_type(place, "request"):
        total.update(request["seconds"])
    return total


def check_sums(place: RecordingPlace) -> dict[str, dict[str, Any]]:
    requests = of_type(place, "request")
    for request in requests:
        e2e = request["finish_t"] - request["arrival_t"]
        assert sum(request["seconds"].values()) == pytest.approx(e2e, rel=1e-3, abs=1e-6), request
        assert min(request["seconds"].values()) >= 0, request
        if request["to_first"] is not None:
            ttft = request["first_token_t"] - request["arrival_t"]
            assert sum(request["to_first"].values()) == pytest.approx(ttft, rel=1e-3, abs=1e-6), request
        assert (request["to_first"] is None) == (request["output"] == 0)
        decoded = sum(end - start for start, end in request["decodes"])
        assert decoded == pytest.approx(request["seconds"].get("decode", 0.0), abs=1e-6)
    return {request["id"]: request for request in requests}


def play(scheduler: Any, adapter: Any, arrivals: dict[int, Sequence[Any]]) -> None:
    left = dict(arrivals)
    scheduler.run(lambda number: left.pop(number, ()), lambda: bool(left))
    adapter.close()


def crowd(scheduler: Any, count: int = 40) -> dict[int, list[Any]]:
    """Each round somebody new, with and without a beginning that others have."""
    draw = Random(7)
    shared = [draw.randrange(3, 512) for _ in range(48)]
    reqs = [
        scheduler.request(
            f"r{i}", shared * (i % 2) + [draw.randrange(3, 512) for _ in range(draw.randint(5, 180))], draw.randint(1, 90)
        )
        for i in range(count)
    ]  # fmt: skip
    return {1 + i: [req] for i, req in enumerate(reqs)}


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("strategy", ["sglang_default", "stock", "backfill"])
def test_seconds_by_cause_add_up_under_pressure(
    real: Any, hooked: Callable[..., Any], place: RecordingPlace, tmp_path: Path, strategy: str, overlap: bool
) -> None:
    """And steps are those that the step log has, which goes through everybody."""
    scheduler = real(512, 6, disable_overlap_schedule=not overlap, schedule_conservativeness=0.1, **SMALL)
    log = tmp_path / "steps.jsonl"
    adapter = hooked(scheduler, place, strategy=strategy, steps_path=str(log))
    play(scheduler, adapter, crowd(scheduler))
    requests = check_sums(place)
    assert len(requests) == len(of_type(place, "arrival")) == 40
    assert sum(request["preemptions"] for request in requests.values()) == len(of_type(place, "preempt")) > 0
    total = seconds(place)
    for cause in ("memory", "behind", "preempted", "recompute", "prefill", "decode"):
        assert total[cause] > 0, total
    theirs, ours = [json.loads(line) for line in log.open()], steps(place)
    same = (
        "prefill_tokens", "decode_tokens", "prefill_reqs", "decode_reqs", "context_tokens", "prefill_context", "running",
        "waiting", "used_blocks", "preempted",
    )  # fmt: skip
    assert [[one[key] for key in same] for one in ours] == [[one[key] for key in same] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["t"] == pytest.approx(other["t"], abs=0.05) and one["dur"] > 0
