"""A search for parameters by an optimising sweeper (Optuna): what it is told of a run, and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

RESULTS = "optimization_results.yaml"  # what hydra-optuna-sweeper leaves in the sweep's folder


def objectives(objective: Any) -> list[str]:
    """The metrics that `objective` names: one, or a list."""
    return [objective] if isinstance(objective, str) else list(objective)


def objective_of(objective: Any, runs: Sequence[Mapping[str, float]]) -> float | list[float] | None:
    """The mean over the runs of each metric, in the form of `objective`: a number or a list.

    None if there is no run. A metric that a run lacks, such as a p99 of few requests, is NaN.
    """
    if not runs:
        return None
    means = [mean(run.get(metric, math.nan) for run in runs) for metric in objectives(objective)]
    return means[0] if isinstance(objective, str) else means


def found_lines(folder: Path, metrics: Sequence[str]) -> list[str]:
    """A line for the best trial, or for each that no other beats in every metric; none without a result."""
    if not (folder / RESULTS).is_file():
        return []
    found = yaml.safe_load((folder / RESULTS).read_text())
    solutions = found.get("solutions") or [{"params": found["best_params"], "values": [found["best_value"]]}]
    lines = []
    for solution in sorted(solutions, key=lambda solution: solution["values"]):
        values = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(metrics, solution["values"], strict=True)
        )
        lines.append(f"found    {values}: " + " ".join(f"{k}={v}" for k, v in solution["params"].items()))
    return lines
