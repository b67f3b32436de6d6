"""Hands a planned Hydra multirun to the sweep driver as a whole."""

from __future__ import annotations

from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ray_jobs.config import BenchConfig


class SweepCallback(Callback):
    """Collects the job of every combination; when all are planned, runs them as one sweep."""

    def __init__(self) -> None:
        self.jobs: list[BenchConfig] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if isinstance(job_return._return_value, BenchConfig):
            self.jobs.append(job_return._return_value)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.jobs:
            from ray_jobs.run import run_sweep

            run_sweep(self.jobs)
