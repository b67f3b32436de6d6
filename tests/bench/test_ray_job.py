"""The commands for a cluster in docs/cluster.md, as they stand there: a head, a second node, a job, a token."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from commands import ROOT, bench, bench_command, stored

from tracking.store.client import open_client

NAME = socket.gethostname()  # a name of this machine that an MLflow server does not know by itself
BIN = Path(sys.executable).parent
SIM = (
    "cluster=ray", "engine=vllm_sim", "engine.num_blocks=300", "engine.max_model_len=4096",
    "workload=mixed", "workload.num_requests=40", "workload.rate=30",
)  # fmt: skip


def documented() -> list[str]:
    """The command lines of the section on a cluster, without their comments."""
    section = (ROOT / "docs" / "cluster.md").read_text().partition("\n## A cluster\n")[2]
    block = re.search(r"^```console\n(.*?)^```", section, re.DOTALL | re.MULTILINE).group(1)
    return [re.sub(r"\s+# .*", "", line)[2:] for line in block.splitlines()]


def free_ports(count: int) -> list[int]:
    """Of those that no system gives away by itself (Linux begins at 32768), so that none is taken meanwhile."""
    found = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            found.append(port)
    return found[:count]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true: Callable[[], bool], otherwise: Callable[[], str], within_s: float = 300.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)


@contextmanager
def running(
    command: str, environment: dict[str, str], log: Path, says: str = "Ray runtime started"
) -> Iterator[None]:
    """A node in the foreground (`--block`), which ends with the test: `ray stop` would end everybody's."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, shell=True, env=environment, stdout=output, stderr=output, start_new_session=True, cwd=log.parent
        )  # fmt: skip
    try:

        def started() -> bool:
            return says in log.read_text()

        until(lambda: started() or process.poll() is not None, lambda: f"{command}: {log.read_text()}")
        assert started(), f"{command} ended with {process.returncode}: {log.read_text()}"
        yield
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):  # the shell ends at once, Ray's servers a minute later
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.long
def test_the_documented_commands_make_a_cluster_and_run_a_job(tmp_path, monkeypatch):
    export, token, head, second, server, submit = documented()
    port, jobs, client, agent, mlflow = free_ports(5)
    monkeypatch.setenv("HOME", str(tmp_path))  # where the token goes
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    variable, _, mode = export.removeprefix("export ").partition("=")
    environment = os.environ | {variable: mode}
    subprocess.run(token, shell=True, env=environment, check=True, timeout=600)
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # its sockets need a short path
        # What several clusters on one machine need, and nothing else.
        head += (
            f" --port={port} --dashboard-port={jobs} --ray-client-server-port={client} --temp-dir={folder}"
        )
        more = " --block --disable-usage-stats"
        # An agent that finds its port taken, by another Ray on this machine, starts without its job server.
        head += f" --dashboard-agent-listen-port={agent}"
        second = second.replace("HEAD:6379", f"127.0.0.1:{port}")
        with running(f"{head} --num-cpus=1 {more}", environment, tmp_path / "head.log"):
            until(lambda: listens(jobs), lambda: "no job server")
            refused = bench(tmp_path, *SIM, f"cluster.address=127.0.0.1:{port}", timeout=600)
            assert refused.returncode == 2, refused.stderr
            # Ray's client logs each refusal of its own, at no level that can be set; the error is one line, the last.
            *rays, line = refused.stderr.strip().splitlines()
            assert line.startswith("error: ") and all("gcs_client.cc" in other for other in rays), (
                refused.stderr
            )
            assert "RAY_AUTH_MODE=token" in line and "cluster.address" in line
            assert len(rays) <= 2, rays  # Ray's client would try twenty times
            with running(f"{second} --num-cpus=1 {more}", environment, tmp_path / "second.log"):
                pass  # it joined; on this machine it has the head's folder, and would unpack the job's files again in it
            store = f"http://{NAME}:{mlflow}"
            server = server.replace("5000", str(mlflow)).replace("HEAD", NAME)
            _, _, _, *arguments = bench_command(tmp_path, *SIM, "seed=0,1", "strategy=preempt-evict,lcf")
            arguments = [
                word for word in arguments if not word.startswith(("tracking.uri", "tracking.artifact"))
            ]
            before, ours, asked = submit.replace("127.0.0.1:8265", f"127.0.0.1:{jobs}").partition(
                "bidkv-bench "
            )
            (tracking,) = (word for word in asked.split() if word == "tracking=server")
            command = " ".join([before + ours, *arguments, tracking, f"tracking.uri={store}"])
            with running(f"{server} --workers 1", environment, tmp_path / "mlflow.log", "Uvicorn running on"):
                unknown = f"http://127.0.0.2:{mlflow}"  # a name of it that it was not told
                with pytest.raises(ConnectionError, match=r"--allowed-hosts 127\.0\.0\.2:"):
                    open_client(unknown)
                deadline = time.monotonic() + 300
                while True:
                    done = subprocess.run(
                        command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
                    )  # fmt: skip
                    if "No available agent" not in done.stderr or time.monotonic() > deadline:
                        break
                    time.sleep(1)  # the head's agent starts after its server
                assert done.returncode == 0, done.stdout + done.stderr
                assert "succeeded" in done.stdout + done.stderr
                runs = stored(tmp_path, "run", store)
    assert len(runs) == 4 and all(run.info.status == "FINISHED" for run in runs)
    assert {run.data.tags["strategy"] for run in runs} == {"preempt-evict", "lcf"}
