from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tracking.result import RunResult


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory):
    """vLLM's configuration of a tiny model, built once; `sim_bench.variant` makes others of it."""
    from sim_bench import tiny_job

    from ray_jobs.engines.sim.build import build_parts

    return build_parts(tiny_job().engine, tmp_path_factory.mktemp("tiny"))


ENGINE_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


def record_engines(folder: Path, engines: list[dict[str, Any]]) -> dict[str, RunResult]:
    """Runs of real engines by id, a start for each engine; see record_engine.py."""
    ids = [run["id"] for engine in engines for run in engine["runs"]]
    return recorded(folder, "record_engine.py", engines, ids)


def record_fleet(folder: Path, what: dict[str, Any]) -> dict[str, RunResult]:
    """Runs of two real engines behind a router by id; see record_fleet.py."""
    return recorded(folder, "record_fleet.py", what, [run["id"] for run in what["runs"]])


def recorded(folder: Path, script: str, what: Any, ids: list[str]) -> dict[str, RunResult]:
    from tracking.result import RunResult

    jobs = folder / "jobs.json"
    jobs.write_text(json.dumps(what))
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script)), str(folder), str(jobs)],
        env=os.environ | ENGINE_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-3000:]
    return {run_id: RunResult.load(folder / run_id) for run_id in ids}
