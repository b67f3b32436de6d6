"""Bad input through the real command line: one line, exit code 2, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(tmp_path, *overrides):
    """Runs `python -m ray_jobs.run` as a user would, with its outputs in `tmp_path`."""
    outputs = [
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        f"tracking.artifact_root={tmp_path}/artifacts",
        f"hydra.sweep.dir={tmp_path}/hydra",
        f"hydra.run.dir={tmp_path}/hydra",
    ]
    command = [sys.executable, "-m", "ray_jobs.run", *overrides, *outputs]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy=nonsense"], ["strategy/nonsense", "preempt-evict", "bidkv"]),
        (["strategy=bidkv", "strategy.victim=nonsense"], ["strategy.victim", "'nonsense'", "lcf"]),
        (["strategy=bidkv", "+strategy.params.weight=1"], ["weight"]),
        (["workload.rate=-1"], ["workload.rate", "-1"]),
        (["workload.rate=fast"], ["workload.rate", "fast"]),
        (["workload.ratee=1"], ["ratee"]),
        (["workload=azure_conv", "workload.source.path=/no/such/file.csv"], ["/no/such/file.csv", "path"]),
        (["engine.num_blocks=2"], ["engine.num_blocks", "2", "engine.max_model_len"]),
        (["engine.kind=tgi"], ["engine.kind", "tgi", "vllm"]),
        (["strategy=bidkv", "seed=0,0"], ["repeat"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, overrides, words):
    done = bench(tmp_path, *overrides)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert not (tmp_path / "mlflow.db").exists()
