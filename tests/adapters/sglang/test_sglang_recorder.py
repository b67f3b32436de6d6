"""What a recording of SGLang's real scheduler says: every request's seconds add up, and each cause where it belongs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from recordings import check_sums, of_type, seconds, steps

SMALL = {"page_size": 1, "chunked_prefill_size": 128}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own" / "recording"


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
    real: Any, hooked: Callable[..., Any], folder: Path, tmp_path: Path, strategy: str, overlap: bool
) -> None:
    """And steps are those that the step log has, which goes through everybody."""
    scheduler = real(512, 6, disable_overlap_schedule=not overlap, schedule_conservativeness=0.1, **SMALL)
    log = tmp_path / "steps.jsonl"
    adapter = hooked(scheduler, folder, strategy=strategy, steps_path=str(log))
    play(scheduler, adapter, crowd(scheduler))
    requests = check_sums(folder)
    assert len(requests) == len(of_type(folder, "arrival")) == 40
    assert sum(request["preemptions"] for request in requests.values()) == len(of_type(folder, "preempt")) > 0
    total = seconds(folder)
    for cause in ("memory", "behind", "preempted", "recompute", "prefill", "decode"):
        assert total[cause] > 0, total
    assert not total["deferred"], "nobody told it to"
    theirs, ours = [json.loads(line) for line in log.open()], steps(folder)
    same = (
        "prefill_tokens", "decode_tokens", "prefill_reqs", "decode_reqs", "context_tokens", "prefill_context", "running",
        "waiting", "used_blocks", "preempted",
    )  # fmt: skip
    assert [[one[key] for key in same] for one in ours] == [[one[key] for key in same] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["t"] >= other["t"] - 1e-6 and one["dur"] > 0, "it looks at the clock a little later"


def test_a_probe_of_the_servers_health_is_no_request(
    real: Any, hooked: Callable[..., Any], folder: Path
) -> None:
    scheduler = real(512, 6, **SMALL)
    adapter = hooked(scheduler, folder, strategy="sglang_default")
    probe, request = (
        scheduler.request(name, prompt, 1) for name, prompt in (("HEALTH_CHECK_1", [5]), ("r", [6, 7]))
    )
    play(scheduler, adapter, {1: [probe], 9: [request]})
    assert list(check_sums(folder)) == [one["id"] for one in of_type(folder, "arrival")] == ["r"]
    assert sum(one["prefill_reqs"] for one in steps(folder)) == 2


def ticking() -> Callable[[], float]:
    """Each look at it moves it by a millisecond: what takes more rounds is longer, however busy the machine is."""
    now = itertools.count(1_000_000)
    return lambda: 1e6 + next(now) * 1e-3


def longest(request: dict[str, Any]) -> str:
    """What it waited for."""
    waits = {c: s for c, s in request["seconds"].items() if c not in ("intake", "prefill", "decode")}
    return max(waits, key=waits.__getitem__, default="")


def test_a_seat_a_budget_memory_and_a_policy_are_told_apart(
    real: Any, hooked: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    def recorded(
        name: str, seats: int, prompts: Sequence[int], output: int, **settings: Any
    ) -> dict[str, str]:
        scheduler, own = (
            real(512, seats, disable_overlap_schedule=True, **SMALL),
            folder.with_name(name),
        )
        adapter = hooked(scheduler, own, ticking(), **settings)
        reqs = [scheduler.request(f"{n}", [3 + n] * size, output) for n, size in enumerate(prompts)]
        play(scheduler, adapter, {1: reqs[:1], 5: reqs[1:]})
        return {rid: longest(request) for rid, request in check_sums(own).items()}

    default = {"strategy": "sglang_default"}
    assert recorded("seat", 1, [40, 40], 30, **default)["1"] == "seat"
    assert recorded("memory", 8, [250, 250, 20], 60, **default) | {"0": ""} == {
        "0": "",
        "1": "memory",
        "2": "behind",
    }
    assert recorded("budget", 8, [40, 128, 128, 128], 4, **default)["3"] == "budget"
    held = {"headroom": 0.4, "growth": 0.0, "alone_after": 0, "patience": 1e9}
    policy = {"strategy": "backfill", "admission": "backfill", "admission_params": held}
    assert recorded("policy", 8, [200, 200], 60, **policy)["1"] == "policy"


def test_who_is_left_out_and_whoever_is_put_off_have_causes_of_their_own(
    real: Any, hooked: Callable[..., Any], folder: Path
) -> None:
    """Adapters and grammars have stand-ins: SGLang's answers about them are what is recorded."""
    scheduler = real(512, 8, disable_overlap_schedule=True, **SMALL)
    scheduler.enable_lora = True
    scheduler.can_schedule_lora_req = lambda req, running: req.rid != "lora" or scheduler.round > 20
    adapter = hooked(scheduler, folder, ticking(), strategy="sglang_default")
    reqs = {
        name: scheduler.request(name, [3 + n] * 40, 30) for n, name in enumerate(("runs", "lora", "put off"))
    }
    interval = scheduler._should_defer_prefill
    scheduler._should_defer_prefill = lambda batch: 30 < scheduler.round < 40 or interval(batch)
    enter = scheduler._add_request_to_queue

    def compiles(req: Any, *more: Any) -> None:
        req.grammar_key = "json", "{}"
        req.time_stats.scheduler_recv_time -= 3.0
        enter(req, *more)

    def arrivals(number: int) -> Sequence[Any]:
        scheduler._add_request_to_queue = compiles if number == 50 else enter
        return {
            1: [reqs["runs"], reqs["lora"]],
            31: [reqs["put off"]],
            50: [scheduler.request("json", [9] * 9, 3)],
        }.get(number, ())

    try:
        scheduler.run(arrivals, lambda: scheduler.round < 51)
    finally:
        scheduler.enable_lora = False
        del scheduler._add_request_to_queue
    adapter.close()
    causes = {rid: longest(request) for rid, request in check_sums(folder).items()}
    assert causes == {"runs": "", "lora": "lora", "put off": "deferred", "json": "grammar"}
    assert seconds(folder)["grammar"] == pytest.approx(3.0, abs=0.5)


def test_no_text_and_no_name_of_a_session_comes_into_the_folder(
    real: Any, hooked: Callable[..., Any], folder: Path
) -> None:
    scheduler = real(512, 8, **SMALL)
    adapter = hooked(scheduler, folder, strategy="sglang_default")
    prompt = [*range(100, 164)]
    talk = {"session": "alice@example.com"}
    play(
        scheduler, adapter,
        {
            1: [scheduler.request("a", prompt, 20, **talk)],
            40: [scheduler.request("b", [*prompt, *range(200, 240)], 3, **talk), scheduler.request("c", prompt, 3, session="bob")],
        },
    )  # fmt: skip
    assert "alice" not in "".join(path.read_text() for path in folder.iterdir())
    sessions = [record["session"] for record in of_type(folder, "arrival")]
    assert sessions[0] == sessions[1] != sessions[2]
    requests = check_sums(folder)
    blocks = {rid: request["blocks"] for rid, request in requests.items()}  # 16 tokens each
    assert blocks == {"a": [0, 5], "b": [0, 4, 5, 2], "c": [0, 4]}, "the fifth of a has its answer"
    assert requests["b"]["cached"] == 64 and requests["c"]["cached"] == 63


def test_a_paused_engine_is_no_slow_one(real: Any, hooked: Callable[..., Any], folder: Path) -> None:
    scheduler = real(512, 8, **SMALL)
    adapter = hooked(scheduler, folder, ticking(), strategy="sglang_default")
    receiver = SimpleNamespace(server_args=scheduler.server_args)
    request = scheduler.request("a", [5] * 40, 5)

    def arrivals(number: int) -> Sequence[Any]:
        if number == 1:
            scheduler._engine_paused = True
        if number == 30:
            scheduler._engine_paused = False
        adapter.recv_requests(lambda receiver: [], receiver)
        return [request] if number == 3 else ()

    scheduler.run(arrivals, lambda: scheduler.round < 31)
    adapter.close()
    assert longest(check_sums(folder)["a"]) == "paused"


def test_what_fails_in_the_recorder_ends_the_recording_and_not_the_engine(
    real: Any, hooked: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bidkv.adapters.sglang.recorder import Recorder
    from bidkv.adapters.shared.recording import writer

    warnings: list[str] = []  # not by caplog: an engine that ran in this process has set up logging anew
    monkeypatch.setattr(writer.logger, "warning", lambda text, *facts: warnings.append(text % facts))

    scheduler = real(512, 8, **SMALL)
    adapter = hooked(scheduler, folder, strategy="sglang_default")

    def wrong(self: Any, *facts: Any) -> None:
        raise KeyError("no such request")

    monkeypatch.setattr(Recorder, "launched", wrong)
    play(scheduler, adapter, {1: [scheduler.request("a", [5] * 40, 20)]})
    assert len(scheduler.outputs["a"]) == 20
    (warning,) = warnings
    assert "the recording has stopped" in warning and "no such request" in warning
