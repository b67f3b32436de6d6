"""`python -m bidkv.adapters.sglang.serve`: SGLang's server with a strategy, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bidkv.adapters.sglang.configure import CONTROL_VARIABLE, RECORD_VARIABLE, STRATEGY_VARIABLE
from bidkv.adapters.sglang.serve import with_ours
from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from tracking.explain import explain

START_S = 300.0


def serve(variables: dict[str, str], *flags: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    clean = {
        k: v for k, v in os.environ.items() if k not in (CONTROL_VARIABLE, RECORD_VARIABLE, STRATEGY_VARIABLE)
    }
    command = [sys.executable, "-W", "ignore", "-m", "bidkv.adapters.sglang.serve", *flags]
    return subprocess.Popen(
        command,
        env=clean | variables,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, f"set {STRATEGY_VARIABLE} to a strategy"),
        ({STRATEGY_VARIABLE: "best"}, "unknown 'best'; allowed: .*bidkv_radix"),
        ({CONTROL_VARIABLE: "/nowhere.json"}, "no control file at /nowhere.json"),
        ({STRATEGY_VARIABLE: "stock", RECORD_VARIABLE: "/tmp/record"}, "record /tmp/record: .*mode 1777"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(variables: dict[str, str], message: str) -> None:
    process = serve(variables, "--model-path", "unused")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2
    assert len(output.strip().splitlines()) == 1
    assert re.search(message, output)


def test_a_list_of_allowed_plugins_gets_ours() -> None:
    assert with_ours(None) == "" and with_ours("") == ""
    assert with_ours("other") == "other,bidkv" and with_ours("bidkv, other") == "bidkv,other"


@pytest.mark.engine
def test_the_server_answers_under_the_strategy(tiny_model: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control, events = tmp_path / "control.json", tmp_path / "events.jsonl"
    write_control(control, AdapterSettings(strategy="bidkv_radix", run_id="served", events_path=str(events)))
    flags = (
        f"--model-path {tiny_model} --port {port} --device cpu --attention-backend torch_native --dtype float32 "
        "--skip-tokenizer-init --skip-server-warmup --max-total-tokens 600 --max-running-requests 8 "
        "--context-length 512 --mem-fraction-static 0.9"
    )
    record = tmp_path / "own" / "record"
    record.parent.mkdir(mode=0o700)
    variables = {
        CONTROL_VARIABLE: str(control), RECORD_VARIABLE: str(record), "SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION": "8",
    }  # fmt: skip
    with open(tmp_path / "log", "w+") as log:
        process = serve(variables, *flags.split(), stdout=log)
        try:
            answer = ask_until_up(process, Path(log.name), port, {"input_ids": [5, 6, 7, 8], "rid": "first"})
            with ThreadPoolExecutor(12) as clients:
                list(
                    clients.map(
                        lambda n: ask(port, {"input_ids": [9 + n] * 60, "rid": f"r{n}"}, 80), range(12)
                    )
                )
            wait_for_record(events, "first", *(f"r{n}" for n in range(12)))
            time.sleep(1.0)  # what the recording may lose
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=600)
    assert len(answer["output_ids"]) == 6
    records = read_events(events)
    assert records[0]["type"] == "run_start" and records[0]["victim"] == "bidkv_radix"
    request = next(r for r in records if r["type"] == "request" and r["id"] == "first")
    assert (request["prompt"], request["output"], request["max_tokens"]) == (4, 6, 6)
    check_recording(record, [r for r in records if r["type"] == "request"])


def check_recording(record: Path, left: list[dict[str, Any]]) -> None:
    """What it says of each request is what the event log has, which is written by other code."""
    ((recorded,), found) = explain(str(record))
    assert found.worst_gap < 1e-3 and (found.requests["ttft_s"] <= found.requests["e2e_s"]).all()
    e2e = dict(zip(found.requests["id"], found.requests["e2e_s"], strict=True))
    lost = dict(zip(recorded.requests["id"], recorded.requests["preemptions"], strict=True))
    assert len(left) == 13 and lost == {event["id"]: event["preemptions"] for event in left}
    for event in left:
        assert e2e[event["id"]] == pytest.approx(event["finish_t"] - event["arrival_t"], rel=1e-3, abs=2e-3)
    assert sum(lost.values()) and found.e2e["preempted"].sum() > 0 and found.e2e["recompute"].sum() > 0


def ask(port: int, payload: dict[str, Any], tokens: int) -> dict[str, Any]:
    body = json.dumps(payload | {"sampling_params": {"max_new_tokens": tokens}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/generate", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=START_S) as response:
        return json.load(response)


def ask_until_up(
    process: subprocess.Popen[str], log: Path, port: int, payload: dict[str, Any]
) -> dict[str, Any]:
    """The server's answer to one request, sent again until it is there to take it."""
    body = json.dumps(payload | {"sampling_params": {"max_new_tokens": 6, "ignore_eos": True}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/generate", body, {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(request, timeout=START_S) as response:
                return json.load(response)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail("the server did not come up")


def wait_for_record(events: Path, *names: str) -> None:
    """The scheduler writes a request's record after its answer, which may be read before that."""
    deadline = time.monotonic() + 600
    while not {*names} <= {r["id"] for r in read_events(events) if r["type"] == "request"}:
        assert time.monotonic() < deadline, f"no record of all of {names} in {events}"
        time.sleep(0.1)
