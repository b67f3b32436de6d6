"""Event files: whole lines, honest counters, and a disk that fails."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bidkv.adapters.shared.events import JsonLines, RunLog, read_events
from bidkv.adapters.shared.settings import AdapterSettings


def preemption(source: str = "strategy") -> dict[str, Any]:
    return {"source": source, "select_ns": 5, "hook_ns": 9, "candidates": [("a", 5, 3, 2, 9, None, 0)]}


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    settings = AdapterSettings(
        "bidkv", run_id="r", seed=2, events_path=str(tmp_path / "deep" / "events.jsonl")
    )
    ticks = iter(range(100))
    log = RunLog(settings, clock=lambda: next(ticks))
    assert log.records and not log.degraded
    log.start(settings.build(), {"engine": "test"})
    log.preempt(preemption())
    log.preempt(preemption("kill_switch"))
    assert len(read_events(settings.events_path)) == 1  # preemptions are written after the step
    log.flush()
    assert len(read_events(settings.events_path)) == 3
    log.request({"id": "a"})
    for _ in range(3):
        log.strategy_error(ValueError("no"))
    log.control_error(ValueError("bad file"))
    log.end()
    log.request({"id": "after the end"})

    events = read_events(settings.events_path)
    kinds = ["run_start", "preempt", "preempt", "request", "strategy_error", "control_error", "run_end"]
    assert [e["type"] for e in events] == kinds
    assert (
        events[0] | {"run_id": "r", "admission": "sjf", "victim": "bidkv", "seed": 2, "engine": "test"}
        == events[0]
    )
    seen = {"id": "a", "computed": 5, "prompt": 3, "output": 2, "max_tokens": 9, "private_blocks": None}
    assert events[1]["candidates"] == [seen | {"preemptions": 0}]
    end = events[-1]
    assert (end["preemptions"], end["preemptions_by_strategy"], end["preemptions_by_kill_switch"]) == (
        2,
        1,
        1,
    )
    assert (end["select_ns"], end["hook_ns"]) == (10, 18)
    assert (end["strategy_errors"], end["control_errors"], end["degraded"]) == (3, 1, True)
    assert (end["requests"], end["arrivals"], end["step_records"]) == (1, 0, 0)


def test_no_path_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = RunLog(AdapterSettings("bidkv"))
    log.start(AdapterSettings("bidkv").build(), {})
    log.preempt(preemption())
    log.end()
    assert log.counters["preemptions"] == 1 and not log.records and not list(tmp_path.iterdir())


def test_every_record_is_in_the_file_before_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    script = (
        "import sys; from bidkv.adapters.shared.events import JsonLines; lines = JsonLines(sys.argv[1])\n"
        "number = 0\n"
        "while True:\n"
        "    lines.write({'number': number, 'padding': 'x' * 20_000})\n"
        "    print(number, flush=True); number += 1\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(50):
        said = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    numbers = [record["number"] for record in read_events(path)]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= int(rest[-1] if rest else said)


def test_a_torn_last_line_is_left_out_and_a_torn_middle_is_not(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"a":1}\n{"a":2}\n{"a":')
    assert read_events(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a":1}\n{"a":\n{"a":3}\n')
    with pytest.raises(json.JSONDecodeError):
        read_events(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_counted_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lines = JsonLines("/dev/full")
    for number in range(3):
        lines.write({"number": number})
    assert lines.lost == 3
    assert caplog.text.count("cannot write to /dev/full") == 1

    log = RunLog(AdapterSettings("bidkv", events_path="/dev/full"))
    log.preempt(preemption())
    log.flush()
    assert log.degraded


def test_no_half_of_a_record_stays_on_a_disk_that_fills_up(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        lines = JsonLines(path)
        for number in range(30):
            lines.write({"number": number, "padding": "x" * (200 if number < 6 else 1)})
        lines.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    numbers = [record["number"] for record in read_events(path)]
    assert path.read_bytes().endswith(b"\n") and 0 < len(numbers) < 30
    assert numbers[:5] == [0, 1, 2, 3, 6] and lines.lost == 30 - len(numbers)
