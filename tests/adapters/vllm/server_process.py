"""`python -m bidkv.adapters.vllm.serve` as a process, for tests that talk to a server."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "bidkv.adapters.vllm.serve"]


def environment(strategy: str | None) -> dict[str, str]:
    values = {k: v for k, v in os.environ.items() if k != "BIDKV_STRATEGY"}
    values |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return values if strategy is None else {**values, "BIDKV_STRATEGY": strategy}


@dataclass
class Server:
    """A running one, and the files it was given."""

    url: str
    events: Path
    control: Path
    log: Path
    recording: Path

    def post(self, prompt: list[int], tokens: int) -> dict:
        body = {
            "model": "tiny",
            "prompt": prompt,
            "max_tokens": tokens,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        request = urllib.request.Request(
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request, timeout=600))

    def scrape(self) -> dict[str, float]:
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=30).read().decode()
        lines = [line for line in text.splitlines() if line.startswith(("bidkv_", "vllm:num_preemptions"))]
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


@contextmanager
def running_server(model: Path, folder: Path) -> Iterator[Server]:
    """Its memory is too small for three requests of 512 tokens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Server(
        f"http://127.0.0.1:{port}",
        folder / "events.jsonl",
        folder / "control.json",
        folder / "log",
        folder / "rec",
    )
    flags = (
        f"--port {port} --host 127.0.0.1 --dtype float32 --enforce-eager --kv-cache-memory-bytes 67108864 "
        "--enable-scale-out --max-model-len 512 --block-size 32 --num-gpu-blocks-override 24 "
        f"--served-model-name tiny --bidkv-events {made.events} --bidkv-admission fcfs "
        f"--bidkv-control {made.control} --bidkv-record {made.recording}"
    )
    with open(made.log, "w") as output:
        process = subprocess.Popen(
            [*COMMAND, "--strategy", "bidkv", "--model", str(model), *flags.split()],
            env=environment(None) | {"VLLM_LOGGING_LEVEL": "INFO"},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.time() + 600
        while True:
            assert process.poll() is None and time.time() < deadline, made.log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{made.url}/health", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        yield made
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
