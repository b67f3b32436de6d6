"""`python -m bidkv.adapters.vllm.serve`: a real server, one completion, and settings that are refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

from bidkv.adapters.shared.events import read_events

pytestmark = pytest.mark.engine
COMMAND = [sys.executable, "-m", "bidkv.adapters.vllm.serve"]


def environment(strategy: str | None) -> dict[str, str]:
    values = {k: v for k, v in os.environ.items() if k != "BIDKV_STRATEGY"}
    values |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return values if strategy is None else {**values, "BIDKV_STRATEGY": strategy}


def test_one_completion(tiny_model: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    events, log = tmp_path / "events.jsonl", tmp_path / "log"
    flags = (
        f"--port {port} --host 127.0.0.1 --dtype float32 --enforce-eager --kv-cache-memory-bytes 67108864 "
    )
    flags += "--max-model-len 512 --block-size 32 --num-gpu-blocks-override 24 --skip-tokenizer-init "
    flags += f"--served-model-name tiny --bidkv-events {events} --bidkv-admission fcfs"
    with open(log, "w") as output:
        server = subprocess.Popen(
            [*COMMAND, "--model", str(tiny_model), *flags.split()],
            env=environment("bidkv"),
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.time() + 300
        while True:
            assert server.poll() is None and time.time() < deadline, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        body = {"model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 6, "ignore_eos": True}
        request = urllib.request.Request(
            f"{url}/v1/completions",
            data=json.dumps({**body, "return_token_ids": True}).encode(),
            headers={"Content-Type": "application/json"},
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(30)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
    assert len(answer["choices"][0]["token_ids"]) == 6
    start, *records = read_events(events)
    assert (start["strategy"], start["admission"], start["victim"]) == ("bidkv", "fcfs", "bidkv")
    (record,) = [r for r in records if r["type"] == "request"]
    assert record["id"].startswith(answer["id"])
    assert (record["prompt"], record["output"], record["executed"]) == (4, 6, 9)


@pytest.mark.parametrize(
    ("strategy", "flags", "words"),
    [
        ("nope", "", ["strategy", "'nope'", "allowed", "bidkv"]),
        (None, "", ["BIDKV_STRATEGY"]),
        ("bidkv", "--bidkv-victim nobody", ["victim", "'nobody'", "allowed", "lifo"]),
        ("bidkv", "--scheduler-cls my.Scheduler", ["--scheduler-cls"]),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(
    tmp_path: Path, strategy: str | None, flags: str, words: list[str]
) -> None:
    (tmp_path / "vllm.py").write_text("raise SystemExit('vLLM was loaded before the settings were checked')")
    variables = environment(strategy)
    variables["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [*COMMAND, "--model", "/no/such/model", *flags.split()],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and all(word in line for word in words)


def test_the_plugin_refuses_an_unknown_strategy() -> None:
    script = "from bidkv.adapters.vllm.plugin import register; register()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment("nope"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: BIDKV_STRATEGY: strategy: unknown 'nope'; allowed:")


def test_the_plugin_is_inert_without_the_variable_and_loads_no_engine() -> None:
    script = (
        "import sys; from bidkv.adapters.vllm.plugin import register; register(); "
        "assert not {'vllm', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(None), check=True, timeout=60)
