"""Hands a planned Hydra multirun to the sweep driver as a whole."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.no_effect import refuse_no_effect
from ray_jobs.drive.planning import BASIC_SWEEPER, PlanningBar, combinations, refuse_odd_sweeps
from ray_jobs.drive.refused import nothing_left
from ray_jobs.drive.search import found_lines, objectives
from ray_jobs.drive.secrets import refuse_secrets
from tracking.cli import exit_on_bad_input
from tracking.imports import large_imports


class SweepCallback(Callback):
    """Collects the job of every combination; when all are planned, runs them as one sweep."""

    def __init__(self) -> None:
        self.jobs: list[BenchConfig] = []
        self.overrides: list[list[str]] = []  # what each was made of
        self.console = Console()
        self.bar: PlanningBar | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with exit_on_bad_input():
            refuse_secrets(config, config.hydra.overrides.task)
            loader = GlobalHydra.instance().config_loader()  # knows a --config-dir too
            refuse_odd_sweeps(
                config.hydra.overrides.task, lambda group: loader.get_group_options(group, ObjectType.CONFIG)
            )
        # An optimising sweeper does not know its jobs beforehand.
        if config.hydra.sweeper._target_ == BASIC_SWEEPER:
            total = combinations(config.hydra.sweeper.params, config.hydra.overrides.task)
            self.bar = PlanningBar(self.console, total)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with exit_on_bad_input():
            refuse_secrets(config, config.hydra.overrides.task)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if isinstance(job_return._return_value, BenchConfig):
            self.jobs.append(job_return._return_value)
            self.overrides.append(list(job_return.overrides))
            self.bar.one_more()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra turns an exception of a callback into a warning, so failures leave as exit codes."""
        if self.bar is not None:
            self.bar.end()
        if not self.jobs:
            for line in found_lines(Path(config.hydra.sweep.dir), objectives(config.objective)):
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)
            return
        with nothing_left(config.hydra.sweep.dir):
            with exit_on_bad_input():
                refuse_no_effect(list(zip(self.jobs, self.overrides, strict=True)))
            with large_imports():  # Ray: not before every run is configured
                from ray_jobs.drive.launch import run_sweep

            try:
                run_sweep(self.jobs)
            except Exception:
                traceback.print_exc()
                sys.exit(1)
