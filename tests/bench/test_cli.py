"""Bad input through the real command line: one line, exit code 2, nothing written."""

from __future__ import annotations

import socket
import sqlite3

import pytest
from commands import bench

from tracking.store.client import open_client


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy=nonsense"], ["strategy/nonsense", "preempt-evict", "bidkv"]),
        (["strategy=bidkv", "strategy.victim=nonsense"], ["strategy.victim", "'nonsense'", "lcf"]),
        (["strategy=bidkv", "+strategy.params.weight=1"], ["weight"]),
        (["workload.rate=fast"], ["workload.rate", "fast"]),
        (["workload.ratee=1"], ["ratee"]),
        (["workload=azure_conv", "workload.source.path=/no/such/file.csv"], ["/no/such/file.csv", "path"]),
        (["strategy=bidkv", "seed=0,0"], ["repeat"]),
        (["strategy=bidkv,lcf", "strategy.label=x"], ["strategy.label", "'x'", "bidkv", "lcf"]),
        (["experiment=nope", "strategy=lcf,bidkv"], ["experiment/nope", "sim_quick"]),
        (["engine=vllm_sim", "engine.num_cpus=1000"], ["engine.num_cpus", "1000", "this host has"]),
        (["engine=vllm", "engine.num_gpus=512", "engine.tensor_parallel_size=512"], ["GPUs", "vllm_sim"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, overrides, words):
    done = bench(tmp_path, *overrides, new_store=True)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert not (tmp_path / "mlflow.db").exists()


def test_a_database_that_somebody_else_holds_is_one_line(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    lock = sqlite3.connect(tmp_path / "mlflow.db")
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConnectionError, match="tracking.uri='sqlite:.*': database is locked$"):
        open_client(uri)
    lock.rollback()
    assert open_client(uri).search_experiments()


@pytest.mark.parametrize(
    ("key", "overrides"),
    [
        ("cluster.address", ["cluster=ray", "cluster.address={address}"]),
        ("tracking.uri", ["tracking=server", "tracking.uri=http://{address}"]),
    ],
)
def test_a_server_that_does_not_answer_is_said_at_once(tmp_path, key, overrides):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = bench(
            tmp_path, *(text.format(address=address) for text in overrides), timeout=300, new_store=True
        )  # of which a busy machine needs 100 to start Python; MLflow alone would try for 744
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert key in line and address in line
    assert not (tmp_path / "mlruns").exists()
