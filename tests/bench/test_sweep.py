"""A whole sweep through real Ray and a real MLflow store, on the simulated engine."""

from __future__ import annotations

import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from commands import ROOT, bench, bench_started, store_uri, stored
from mlflow.tracking import MlflowClient

from tracking.store.address import short

SIM = (
    "engine=vllm_sim",
    "engine.num_blocks=300",
    "engine.max_model_len=4096",
    "workload=mixed",
    "workload.num_requests=60",
    "workload.rate=30",
    "run.attempts=1",
    "cluster.max_actors=1",  # the start of an engine is most of what a test takes
)
SECRET = "hf_hunter2"
TWO_ENGINES = ("strategy=lcf-guard,lcf", "seed=0,1", "cluster.max_actors=2", "engine.pass_env=[HF_TOKEN]")


@pytest.fixture
def scratch(monkeypatch):
    """The folder for temporary files, with a path short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two engines at once that are passed a secret, and no strategy that stands for the engine itself."""
    folder = tmp_path_factory.mktemp("sweep")
    with tempfile.TemporaryDirectory(prefix="b") as scratch, pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", scratch)
        environment.setenv("HF_TOKEN", SECRET)
        done = bench(folder, *SIM, *TWO_ENGINES)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        yield folder, done.stdout, Path(scratch)


def test_a_sweep_leaves_a_parent_and_a_child_a_run(swept):
    folder, *_ = swept
    (sweep,) = stored(folder, "sweep")
    runs = stored(folder, "run")
    assert sweep.info.status == "FINISHED" and len(runs) == 4
    for run in runs:
        tags, params = run.data.tags, run.data.params
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == sweep.info.run_id
        assert params["workload.rate"] == "30.0" and params["strategy.victim"] == tags["victim"]
        assert run.data.metrics["completion_rate"] == 1.0
        assert run.inputs.dataset_inputs[0].dataset.digest == tags["trace_hash"][:36]
    order = [(r.data.tags["block"], r.data.tags["block_position"], r.data.tags["strategy"]) for r in runs]
    assert sorted(order) == [
        ("0", "0", "lcf-guard"), ("0", "1", "lcf"), ("1", "0", "lcf"), ("1", "1", "lcf-guard")
    ]  # fmt: skip


def test_the_artifacts_are_all_there_and_agree(swept, tmp_path):
    folder, *_ = swept
    client = MlflowClient(store_uri(folder))
    run = stored(folder, "run")[0]
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    expected = {
        "requests.parquet",
        "requests.json",
        "events.jsonl",
        "steps.parquet",
        "config.yaml",
        "timeline.png",
    }
    assert expected <= names
    path = client.download_artifacts(run.info.run_id, "requests.parquet", str(tmp_path))
    requests = pd.read_parquet(path)
    assert len(requests) == 60
    measured = requests[~requests.warmup]
    assert run.data.metrics["e2e_mean_s"] == pytest.approx((measured.finish_t - measured.scheduled_t).mean())
    (sweep,) = stored(folder, "sweep")
    assert {"summary.png", "summary.txt"} <= {i.path for i in client.list_artifacts(sweep.info.run_id)}


def test_the_table_and_the_next_steps_are_printed(swept):
    folder, text, _ = swept
    for word in (
        "mixed, 30 req/s, vllm_sim",
        "lcf-guard",
        "lcf",
        "preemptions",
        "mlflow ui",
        "bidkv-compare",
    ):
        assert word in text
    figure = next(line.split()[1] for line in text.splitlines() if line.startswith("figure"))
    assert (folder / "figures").samefile(figure.rsplit("/", 1)[0])


def test_the_sentence_comes_before_the_table_and_stays_in_the_store(swept):
    folder, text, _ = swept
    assert text.index("too few runs to say") < text.index("means of 2 runs")
    (sweep,) = stored(folder, "sweep")
    assert sweep.info.run_name == f"quick 2×2 {short(sweep.info.run_id)}"
    assert "too few runs to say" in sweep.data.tags["mlflow.note.content"]
    assert f"/#/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}" in text
    names = [run.info.run_name for run in stored(folder, "run")]
    assert "lcf seed=1 mixed 30 req/s" in names


def test_the_printed_compare_command_works(swept):
    _, text, _ = swept
    line = next(line for line in text.splitlines() if line.startswith("compare"))
    name, *arguments = shlex.split(line.removeprefix("compare"))
    assert name == "bidkv-compare" and "baseline=lcf-guard" in arguments
    command = [str(Path(sys.executable).parent / name), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "against lcf-guard" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.long
def test_the_same_command_again_is_a_new_sweep(swept, monkeypatch):
    folder, *_ = swept
    monkeypatch.setenv("HF_TOKEN", SECRET)
    done = bench(folder, *SIM, *TWO_ENGINES)
    assert done.returncode == 0, done.stderr
    assert len(stored(folder, "sweep")) == 2 and len(stored(folder, "run")) == 8


def until_a_result(process: subprocess.Popen[str]) -> list[str]:
    """What a sweep prints up to the line of its next run that ended well."""
    lines = [process.stdout.readline()]
    while lines[-1] and " requests ok, " not in lines[-1]:
        lines.append(process.stdout.readline())
    return lines


def command_of(process: psutil.Process) -> str:
    """Its command line; empty once it has ended."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def is_beside(process: psutil.Process) -> bool:
    """Whether it is a recorder or the uploader."""
    return any(name in command_of(process) for name in ("ray::Recorder", "ray::Uploader"))


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which it and all it started can be reached."""
    everyone = [process, *process.children(recursive=True)]
    sockets = [socket for one in everyone for socket in one.net_connections("inet")]
    return {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}


@pytest.mark.long
def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path):
    overrides = (*SIM, "strategy=preempt-evict,lcf,bidkv", "seed=0,1")
    process = bench_started(tmp_path, *overrides)
    first = until_a_result(process)[-1]
    assert "preempt-evict seed=0 mixed 30 req/s" in first
    assert listening(psutil.Process(process.pid)) == {"127.0.0.1", "::ffff:127.0.0.1"}  # the loopback alone
    started = " ".join(map(command_of, psutil.Process(process.pid).children(recursive=True)))
    assert "ray/dashboard" in started and "monitor.py" not in started  # Ray's of its logs, and its autoscaler
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("interrupted")
    statuses = {run.info.status for run in stored(tmp_path, "run") + stored(tmp_path, "sweep")}
    assert "RUNNING" not in statuses and "FINISHED" in statuses
    finished = [r.info.run_id for r in stored(tmp_path, "run") if r.info.status == "FINISHED"]
    assert len(finished) < 6

    process = bench_started(tmp_path, *overrides)
    lines = until_a_result(process)
    killed = [c for c in psutil.Process(process.pid).children(recursive=True) if is_beside(c)]
    for child in killed:
        child.kill()
    output, errors = process.communicate(timeout=600)
    assert len(killed) == 2 and process.returncode == 0, errors
    assert "".join(lines).count("finished earlier, not run again") == len(finished)
    assert "attempt 1 failed" not in output  # others did their work again; Ray says so too
    (sweep,) = stored(tmp_path, "sweep")
    runs = [r for r in stored(tmp_path, "run") if r.info.status == "FINISHED"]
    assert sweep.info.status == "FINISHED" and len(runs) == 6
    assert len({r.data.tags["bidkv.config_hash"] for r in runs}) == 6
    assert set(finished) <= {r.info.run_id for r in runs}


@pytest.mark.long
def test_an_engine_that_does_not_start_fails_its_runs_and_no_others(tmp_path, scratch):
    done = bench(
        tmp_path,
        *SIM,
        "strategy=preempt-evict,lcf",
        "engine.max_num_batched_tokens=16,8192",
        "figures=/proc/nope",
    )
    assert done.returncode == 1
    assert "max_num_batched_tokens" in done.stdout
    assert "summary: attempt 1 failed" in done.stdout  # its figure could not be written; the sweep was
    by_status = {}
    for run in stored(tmp_path, "run"):
        by_status.setdefault(run.info.status, []).append(run)
    limits = {
        s: [r.data.params["engine.max_num_batched_tokens"] for r in runs] for s, runs in by_status.items()
    }
    assert limits == {"FINISHED": ["8192"] * 2, "FAILED": ["16"]}
    assert stored(tmp_path, "sweep")[0].info.status == "FAILED"
    (failed,) = by_status["FAILED"]
    names = {item.path for item in MlflowClient(store_uri(tmp_path)).list_artifacts(failed.info.run_id)}
    assert names == {"engine.log", "traceback.txt"}
    assert list(scratch.glob("bidkv-*")) == []


@pytest.mark.long
def test_two_at_once_a_store_that_is_away_and_what_brings_the_results(tmp_path):
    overrides = (
        *SIM,
        "strategy=preempt-evict,lcf",
        "seed=0,1",
        "tracking.patience_s=3",
    )
    process = bench_started(tmp_path, *overrides)
    assert "seed=0" in until_a_result(process)[-1]
    process.send_signal(signal.SIGSTOP)  # it holds the sweep, for as long as this takes
    second = bench(tmp_path, *overrides)
    assert second.returncode == 2, second.stdout
    assert f"process {process.pid} on" in second.stderr.strip().splitlines()[-1]
    assert len(stored(tmp_path, "sweep")) == 1

    lock = sqlite3.connect(tmp_path / "mlflow.db", timeout=60)
    lock.execute("BEGIN EXCLUSIVE")  # nobody else reads or writes the store now
    process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert "results are in" in output and "bidkv-upload" in output
    assert "failed" not in output  # no run was run again
    lock.rollback()
    lock.close()
    command = [sys.executable, "-m", "ray_jobs.upload", f"spool={tmp_path}/spool"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (sweep,) = stored(tmp_path, "sweep")
    assert sweep.info.status == "FINISHED"
    finished = [run for run in stored(tmp_path, "run") if run.info.status == "FINISHED"]
    assert len(finished) == 4 and len({run.data.tags["bidkv.config_hash"] for run in finished}) == 4


def test_a_secret_is_passed_by_name_and_stored_nowhere(swept, tmp_path):
    folder, _, scratch = swept
    refused = bench(tmp_path, *SIM, f"+engine.env.MY_API_KEY={SECRET}")
    assert refused.returncode == 2 and "engine.pass_env" in refused.stderr
    assert SECRET not in refused.stdout + refused.stderr
    for place in (folder, scratch):  # Ray's own logs are in the latter
        written = [path for path in place.rglob("*") if path.is_file()]
        assert len(written) > 5
        assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
