"""The benchmark's configuration, composed of what each room owns. Hydra fills it from `conf/`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any

from ray_jobs.drive.search import objectives
from ray_jobs.engines.job import JobConfig
from ray_jobs.workload.config import MOST_REQUESTS
from tracking.errors import require, require_one_of
from tracking.metrics.config import SloConfig
from tracking.places import require_folder
from tracking.store.config import TrackingConfig


@dataclass
class ClusterConfig:
    """Where the engine actors run. `address` null starts Ray in this process; "auto" joins a cluster."""

    address: str | None = None
    num_cpus: int | None = None  # local only; null = as Ray counts them
    max_actors: int | None = None  # null = as many engines as the cluster's CPUs and GPUs hold

    def __post_init__(self) -> None:
        if self.num_cpus is not None:
            require(self.num_cpus > 0, "cluster.num_cpus", self.num_cpus, "> 0 or null")
        if self.max_actors is not None:
            require(self.max_actors > 0, "cluster.max_actors", self.max_actors, "> 0 or null")


@dataclass
class CapacityConfig:
    """How the capacity of an engine under a workload is found: see ray_jobs/drive/capacity.py."""

    # The capacity is between the rate found and this much more; null = 0.02, of a real engine 0.1.
    precision: float | None = None
    max_runs: int = 12
    # In each run; null = six times engine.max_num_seqs, but at least 1500 (of a real engine 300). A file's requests
    # are always those of the workload.
    requests: int | None = None
    seed: int = 0  # of the requests
    folder: str = "outputs/capacity"  # what was found before

    def __post_init__(self) -> None:
        if self.precision is not None:
            allowed = 0.001 <= self.precision <= 0.2
            require(allowed, "capacity.precision", self.precision, "from 0.001 to 0.2, or null")
        require(self.max_runs >= 4, "capacity.max_runs", self.max_runs, ">= 4")
        if self.requests is not None:
            allowed = 50 <= self.requests <= MOST_REQUESTS
            require(allowed, "capacity.requests", self.requests, f"from 50 to {MOST_REQUESTS:,}, or null")
        require_folder("capacity.folder", self.folder)


@dataclass
class BenchConfig(JobConfig):
    """One run: a strategy on a workload in an engine. A sweep is a list of these."""

    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    slo: SloConfig = field(default_factory=SloConfig)
    capacity: CapacityConfig = field(default_factory=CapacityConfig)
    experiment: str | None = None  # its name, for the record
    deployed: str | None = None  # as conf/deployed has the engine, for the record
    proof: str | None = None  # the commit that froze the policies: seeds must be new (conf/used_seeds.yaml)
    figures: str = "outputs/figures"  # folder of the sweeps' figures
    objective: Any = (
        "e2e_mean_s"  # the metric that `main` returns to an optimising sweeper, or a list of them
    )
    objective_seeds: list[int] = field(default_factory=list)  # it gets their mean; none = that of `seed`

    def __post_init__(self) -> None:
        super().__post_init__()
        from tracking.metrics.catalogue import METRICS  # with pandas: not before the rest is in order

        require_folder("figures", self.figures)
        for metric in objectives(self.objective):
            require_one_of("objective", metric, METRICS)
        python = self.engine.python
        if python is not None and self.cluster.address is None:  # a cluster's nodes have their own files
            require(
                shutil.which(python) is not None,
                "engine.python", python, "an interpreter on this machine (`make env-sglang` makes SGLang's)",
            )  # fmt: skip
