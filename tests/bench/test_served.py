"""Two real engines on the CPU behind a router of Ray Serve's own."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from commands import bench_started, store_uri, stored
from mlflow.tracking import MlflowClient

from tracking.records import check_complete
from tracking.result import RunResult

COUNT = 30
FLEET = (
    "engine=vllm_cpu", "engine.replicas=2", "engine.num_cpus=1", "engine.max_model_len=512", "engine.num_blocks=18",
    "engine.prefix_caching=true", "router@engine.router=prefix-affinity", "engine.router.params.imbalance=4",
    "workload=mixed", f"workload.num_requests={COUNT}", "workload.rate=8", "workload.warmup_requests=0",
    "workload.length_scale=0.1", "strategy=backfill", "seed=0,1,2", "run.attempts=1",
)  # fmt: skip


@pytest.mark.engine
@pytest.mark.long
def test_a_fleet_serves_all_and_a_replica_that_is_killed_loses_its_run_only(tmp_path):
    sweep = bench_started(tmp_path, *FLEET)
    try:
        said = until_said(sweep, "seed=0 mixed 8 req/s: 100% of 30 requests ok")
        time.sleep(1)  # into the next run, which takes four
        replicas = replicas_of(sweep)
        replicas[0].kill()
        rest, errors = sweep.communicate(timeout=400)
    finally:
        sweep.kill()
    said += rest
    assert sweep.returncode == 1 and len(replicas) == 2, said + errors
    assert "Traceback" not in said + errors
    assert said.count("the engine was up") == 2 and "1 of 2 replicas are gone" in said, said
    runs = {run.data.tags["seed"]: run for run in stored(tmp_path, "run")}
    ended = {seed: run.info.status for seed, run in runs.items()}
    assert ended == {"0": "FINISHED", "1": "FAILED", "2": "FINISHED"}
    for seed in ("0", "2"):
        check_all_there(downloaded(tmp_path, runs[seed].info.run_id))


def until_said(process: subprocess.Popen[str], text: str) -> str:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError("".join(lines) + process.stderr.read())


def replicas_of(sweep: subprocess.Popen[str]) -> list[psutil.Process]:
    """The actors that Ray Serve made for it."""
    below = psutil.Process(sweep.pid).children(recursive=True)
    return [process for process in below if process.cmdline()[:1] and "ServeReplica" in process.cmdline()[0]]


def downloaded(folder: Path, run_id: str) -> RunResult:
    path = folder / run_id
    path.mkdir()
    MlflowClient(store_uri(folder)).download_artifacts(run_id, "", str(path))
    return RunResult.load(path)


def check_all_there(result: RunResult) -> None:
    """Nobody is lost or served twice, over both replicas, and each said what it did."""
    assert check_complete(result) == []
    assert (result.requests["status"] == "ok").all() and len(result.requests) == COUNT
    records = [event for event in result.events if event["type"] == "request"]
    assert set(Counter(event["id"] for event in records)) == set(result.requests["request_id"])
    assert len(records) == COUNT == result.events[-1]["requests"]
    served = Counter(event["replica"] for event in records)
    assert set(served) == {0, 1} and result.run_start["replicas"] == 2
    assert set(result.steps["replica"]) == {0, 1}
    for event in records:
        work = event["prompt"] + event["output"] - 1 + event["recomputed"] - event["cached"]
        assert event["executed"] == work
    assert result.environment["ray_serve"]
