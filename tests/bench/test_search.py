"""A search for parameters: what the sweeper is told, what is printed, and a whole one with Optuna."""

from __future__ import annotations

import math

import pytest
import yaml
from commands import bench, stored

from ray_jobs.drive.search import RESULTS, found_lines, objective_of


def test_the_objective_is_the_mean_over_seeds() -> None:
    runs = [{"e2e_mean_s": 1.0, "e2e_p99_s": 4.0}, {"e2e_mean_s": 3.0, "e2e_p99_s": 8.0}]
    assert objective_of("e2e_mean_s", runs) == 2.0
    assert objective_of(["e2e_p99_s", "e2e_mean_s"], runs) == [6.0, 2.0]
    assert math.isnan(objective_of("ttft_p99_s", runs))
    assert objective_of("e2e_mean_s", []) is None


def test_what_was_found_is_printed_best_first(tmp_path) -> None:
    assert found_lines(tmp_path, ["a"]) == []
    (tmp_path / RESULTS).write_text(yaml.dump({"best_params": {"+x": 3}, "best_value": 1.5}))
    assert found_lines(tmp_path, ["a"]) == ["found    a 1.5: +x=3"]
    trials = [{"params": {"x": 1}, "values": [2.0, 3.0]}, {"params": {"x": 2}, "values": [1.0, 4.0]}]
    (tmp_path / RESULTS).write_text(yaml.dump({"solutions": trials}))
    assert found_lines(tmp_path, ["a", "b"]) == ["found    a 1, b 4: x=2", "found    a 2, b 3: x=1"]


@pytest.mark.long
def test_optuna_searches_parameters_on_the_simulator(tmp_path) -> None:
    done = bench(
        tmp_path,
        "experiment=search",
        "hydra.sweeper.n_trials=2",
        "workload.num_requests=120",
        "workload.warmup_requests=10",
        "cluster.max_actors=1",
        "objective=[e2e_mean_s,e2e_p90_s]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert 1 <= len(found) <= 2 and all("admission_params.growth=" in line for line in found)
    runs = stored(tmp_path, "run")
    tried = {run.data.params["strategy.admission_params.max_overtaken"] for run in runs}
    assert len(runs) == 4 and len(tried) == 2  # two trials of two seeds


@pytest.mark.long
def test_an_engine_that_does_not_start_for_the_search_of_a_capacity_is_said_in_one_line(tmp_path) -> None:
    done = bench(
        tmp_path,
        "~experiment",
        "engine=vllm_cpu",
        f"engine.model={tmp_path}/nothing",
        "workload=mixed",
        "workload.load=95%",
        f"capacity.folder={tmp_path}",
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert [line for line in done.stderr.splitlines() if line.startswith("error: the engine did not start: ")]
    assert "Traceback" not in done.stderr
