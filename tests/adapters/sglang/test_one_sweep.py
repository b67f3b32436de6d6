"""One sweep over two engines: the driver in its own environment, SGLang's actor in SGLang's: `make test-sglang`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PYTHON = ROOT / ".venv-sglang" / "bin" / "python"

pytestmark = [
    pytest.mark.both_engines,
    pytest.mark.skipif(
        importlib.util.find_spec("mlflow") is None, reason="runs in the driver's environment, not in SGLang's"
    ),
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-sglang: run `make env-sglang`"),
]


def test_a_missing_interpreter_is_one_line_and_exit_code_2() -> None:
    command = [
        sys.executable,
        "-m",
        "ray_jobs.run",
        "engine=sglang_cpu",
        "engine.python=/nowhere/python",
        "strategy=lcf",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "engine.python='/nowhere/python': must be an interpreter" in done.stderr


@pytest.mark.parametrize("python", ["null", sys.executable])
def test_an_environment_without_sglang_is_one_line_and_exit_code_2(python: str) -> None:
    command = [sys.executable, "-m", "ray_jobs.run", "engine=sglang_sim", f"engine.python={python}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "SGLang, which is not installed here: make env-sglang" in done.stderr


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("engine.replicas=2", "must be 1 but for engine.kind=vllm and vllm_sim"),
        ("engine.sim.shortcuts=false", "would change nothing"),
        ("+engine.extra.device=cuda", "must be left out"),
        ("engine.max_num_batched_tokens=null", "must be a number with engine.kind=sglang_sim"),
        ("strategy=kept-first", "must be on SGLang one that its radix tree has"),
    ],
)
def test_what_a_simulated_sglang_has_not_is_one_line_and_exit_code_2(override: str, error: str) -> None:
    command = [sys.executable, "-m", "ray_jobs.run", "engine=sglang_sim", override]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and error in done.stderr


def test_one_sweep_compares_both_engines(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{tmp_path}/mlflow.db"
    overrides = [
        "--config-dir=tests/adapters/sglang/conf",
        "engine=vllm_sim,sglang_shim,sglang_sim",
        "engine.max_model_len=512",
        "engine.num_blocks=700",
        "workload=mixed",
        "workload.num_requests=24",
        "workload.warmup_requests=2",
        "workload.rate=200",
        "workload.length_scale=0.2",
        "workload.fit=drop",
        "strategy=sglang_default,bidkv_radix",
        f"tracking.uri={store}",
        f"tracking.artifact_root={tmp_path}/artifacts",
        f"figures={tmp_path}/figures",
        f"hydra.sweep.dir={tmp_path}/hydra",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs.run", "-m", *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("bidkv").experiment_id
    runs = client.search_runs([experiment], "tags.`bidkv.kind` = 'run'")
    assert {(r.data.tags["engine"], r.data.tags["strategy"]) for r in runs} == {
        (engine, strategy)
        for engine in ("vllm_sim", "sglang", "sglang_sim")
        for strategy in ("sglang_default", "bidkv_radix")
    }
    for run in runs:
        assert run.info.status == "FINISHED" and run.data.metrics["completion_rate"] == 1.0
        if run.data.tags["engine"] == "sglang":
            path = client.download_artifacts(run.info.run_id, "events.jsonl", str(tmp_path))
            events = [json.loads(line) for line in Path(path).read_text().splitlines()]
            assert events[0]["engine"] == "sglang" and events[0]["victim"] == run.data.tags["victim"]
            reasons = [event["reason"] for event in events if event["type"] == "request"]
            assert len(reasons) >= 10 and set(reasons) == {"length"}
