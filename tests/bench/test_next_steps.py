"""What a sweep prints at its end: the answer, a table that fits a terminal, and commands that work."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys

import pytest
from commands import ROOT, bench, stored
from rich.console import Console

from ray_jobs.drive.summary import Row, summary_tables, summary_text

SIM = ("workload=mixed", "engine=vllm_sim", "engine.num_blocks=300", "engine.max_model_len=4096", "workload.num_requests=40",
       "workload.rate=30", "workload.warmup_requests=0", "run.attempts=1")  # fmt: skip


def rows(count: int) -> list[Row]:
    metrics = {"completion_rate": 1.0, "ttft_p50_s": 0.1234, "ttft_p90_s": 1.01, "tpot_mean_s": 0.00843, "e2e_mean_s": 1.46,
               "e2e_p90_s": 12.79, "throughput_tok_s": 1406.2, "slo_attainment": 0.992, "preemptions": 1270.0,
               "executed_tax": 0.0156, "nominal_tax": 0.05}  # fmt: skip
    return [Row("mixed, 11 req/s, vllm_sim", f"preempt-evict-{i}", metrics, {}) for i in range(count)]


def test_the_means_of_twelve_strategies_fit_eighty_columns_and_nothing_is_cut():
    console = Console(file=io.StringIO(), width=80)
    for table in summary_tables(rows(12)):
        console.print(table)
    text = console.file.getvalue()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in text
    for i in range(12):
        line = next(line for line in lines if f"preempt-evict-{i} " in line)
        for value in ("0.123", "1.01", "8.43", "1.46", "12.8", "1406", "99.2%", "1270", "1.6%"):
            assert value in line
    assert "nominal" in summary_text(rows(2)) and "nominal" not in text


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep without any strategy that stands for the engine itself."""
    folder = tmp_path_factory.mktemp("steps")
    done = bench(folder, *SIM, "strategy=lcf-guard,lcf", "seed=0,1")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_sentence_comes_before_the_table_and_stays_in_the_store(swept):
    folder, text = swept
    assert text.index("too few runs to say") < text.index("means of 2 runs")
    (sweep,) = stored(folder, "sweep")
    assert sweep.info.run_name == f"quick 2×2 {sweep.info.run_id[:8]}"
    assert "too few runs to say" in sweep.data.tags["mlflow.note.content"]
    assert f"/#/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}" in text
    names = [run.info.run_name for run in stored(folder, "run")]
    assert "lcf seed=1 mixed 30 req/s" in names


def test_the_printed_compare_command_works(swept):
    _, text = swept
    line = next(line for line in text.splitlines() if line.startswith("compare"))
    python, *arguments = shlex.split(line.removeprefix("compare"))
    assert python == "python" and "baseline=lcf-guard" in arguments
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "against lcf-guard" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
