"""`ray job submit` against a head node on this machine."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT, bench_command, stored

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(tmp_path_factory):
    """A Ray head node; gives the address of its job server and the environment to use it."""
    folder = tmp_path_factory.mktemp("ray", numbered=False)  # its sockets need a short path
    port = free_port()
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }  # on by default since Ray 2.60
    environment = os.environ | token | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [
        "ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", f"--port={free_port()}", f"--dashboard-port={port}",
        "--dashboard-host=127.0.0.1", f"--ray-client-server-port={free_port()}", f"--temp-dir={folder}",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_benchmark_runs_as_a_ray_job(head, tmp_path):
    address, environment = head
    _, *arguments = bench_command(
        tmp_path, "cluster=ray", "engine=vllm_sim", "engine.num_blocks=300", "engine.max_model_len=4096",
        "workload.num_requests=40", "strategy=preempt-evict,lcf",
    )  # fmt: skip
    command = ["ray", "job", "submit", "--address", address, "--working-dir", ".", "--", "python", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout + done.stderr
    runs = stored(tmp_path, "run")
    assert {run.data.tags["strategy"] for run in runs} == {"preempt-evict", "lcf"}
    assert all(run.info.status == "FINISHED" for run in runs)
