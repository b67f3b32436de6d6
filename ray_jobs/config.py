"""The benchmark's configuration: types, ranges and defaults. Hydra fills it from `conf/`."""

from __future__ import annotations

import inspect
import shutil
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bidkv import create_default_registry
from ray_jobs.sim.config import SimConfig, check_simulated
from ray_jobs.workload_config import WorkloadConfig, require

ENGINE_KINDS = ("vllm", "vllm_sim", "sglang")


@dataclass
class StrategyConfig:
    """An admission order, a victim policy and its parameters."""

    name: str = MISSING
    admission: str = MISSING
    victim: str = MISSING
    params: dict[str, Any] = field(default_factory=dict)
    label: str | None = None  # how results name it; derived from the pair when absent

    def __post_init__(self) -> None:
        registry = create_default_registry()
        for key, value, allowed in (
            ("strategy.admission", self.admission, registry.list_admissions()),
            ("strategy.victim", self.victim, registry.list_victims()),
        ):
            require(value in allowed, key, value, "one of " + ", ".join(allowed))
        registry.pair(self.admission, self.victim, **self.params)
        if self.label is None:
            self.label = self._derived_label(registry)

    def _derived_label(self, registry: Any) -> str:
        """The strategy's name, with whatever differs from what the name stands for."""
        marks = []
        if self.name in registry.list_strategies():
            named = registry.get(self.name)
            if self.victim != named.victim.name:
                marks.append(f"victim={self.victim}")
            if self.admission != named.admission.name:
                marks.append(f"admission={self.admission}")
        victim = registry.pair(self.admission, self.victim).victim
        defaults = {key: p.default for key, p in inspect.signature(type(victim)).parameters.items()}
        marks += [
            f"{key}={value}" for key, value in sorted(self.params.items()) if defaults.get(key) != value
        ]
        return self.name + (f"[{','.join(marks)}]" if marks else "")


@dataclass
class TinyModelConfig:
    """Shape of the random Llama that `engine.model=tiny-llama` stands for."""

    hidden_size: int = 64
    layers: int = 2


@dataclass
class EngineConfig:
    """An inference engine and its limits. Tokens and blocks are counts, times are seconds."""

    kind: str = MISSING
    model: str = MISSING
    tiny: TinyModelConfig = field(default_factory=TinyModelConfig)
    vocab_size: int = 32000  # prompt token ids are drawn below it
    load_format: str = "auto"
    dtype: str = "auto"
    block_size: int = 16
    num_blocks: int | None = None  # KV-cache blocks; null = as many as memory holds
    max_num_seqs: int = 32
    max_model_len: int = 8192
    max_num_batched_tokens: int | None = None
    prefix_caching: bool = True
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)  # further engine arguments, by the engine's names
    env: dict[str, str] = field(default_factory=dict)  # environment of the engine's process
    python: str | None = None  # interpreter of the engine's own environment; null = the driver's
    num_gpus: float = 0.0
    num_cpus: float = 1.0
    start_timeout_s: float = 600.0
    sim: SimConfig | None = None  # kind=vllm_sim only

    def __post_init__(self) -> None:
        require(self.kind in ENGINE_KINDS, "engine.kind", self.kind, "one of " + ", ".join(ENGINE_KINDS))
        for key in ("block_size", "max_num_seqs", "max_model_len", "vocab_size", "tensor_parallel_size"):
            require(getattr(self, key) > 0, f"engine.{key}", getattr(self, key), "> 0")
        require(
            0 < self.gpu_memory_utilization <= 1,
            "engine.gpu_memory_utilization", self.gpu_memory_utilization, "in (0, 1]",
        )  # fmt: skip
        require(self.num_gpus >= 0, "engine.num_gpus", self.num_gpus, ">= 0")
        require(self.num_cpus >= 0, "engine.num_cpus", self.num_cpus, ">= 0")
        if self.num_blocks is not None:
            require(self.num_blocks > 0, "engine.num_blocks", self.num_blocks, "> 0")
            capacity = (self.num_blocks - 1) * self.block_size  # vLLM keeps one block empty
            require(
                capacity >= self.max_model_len,
                "engine.num_blocks", self.num_blocks,
                f"at least {-(-self.max_model_len // self.block_size) + 1}, so that one request of "
                f"engine.max_model_len={self.max_model_len} tokens fits beside the empty block",
            )  # fmt: skip
        if self.kind == "vllm_sim":
            check_simulated(self)


@dataclass
class ClusterConfig:
    """Where the engine actors run. `address` null starts Ray in this process; "auto" joins a cluster."""

    address: str | None = None
    num_cpus: int | None = None  # local only; null = as Ray counts them
    max_actors: int | None = None  # null = as many engines as the cluster's CPUs and GPUs hold

    def __post_init__(self) -> None:
        if self.max_actors is not None:
            require(self.max_actors > 0, "cluster.max_actors", self.max_actors, "> 0 or null")


@dataclass
class TrackingConfig:
    """The MLflow store."""

    uri: str = "sqlite:///outputs/mlflow.db"
    artifact_root: str | None = "outputs/mlartifacts"  # null leaves it to the server
    experiment: str = "bidkv"
    resume: bool = True  # an interrupted sweep goes on: its finished runs are not run again


@dataclass
class SloConfig:
    """The service-level objective a request must meet to count as goodput."""

    ttft_s: float = 2.0
    tpot_s: float = 0.1

    def __post_init__(self) -> None:
        require(self.ttft_s > 0, "slo.ttft_s", self.ttft_s, "> 0")
        require(self.tpot_s > 0, "slo.tpot_s", self.tpot_s, "> 0")


@dataclass
class RunConfig:
    """Deadlines of one run (seconds) and how often a run that failed is tried."""

    timeout_s: float = 900.0
    request_timeout_s: float = 300.0
    attempts: int = 2
    log_schedule: bool = False  # record every step's schedule (large; for the simulator's checks)

    def __post_init__(self) -> None:
        require(self.timeout_s > 0, "run.timeout_s", self.timeout_s, "> 0")
        require(self.request_timeout_s > 0, "run.request_timeout_s", self.request_timeout_s, "> 0")
        require(self.attempts >= 1, "run.attempts", self.attempts, ">= 1")


@dataclass
class BenchConfig:
    """One run: a strategy on a workload in an engine. A sweep is a list of these."""

    strategy: StrategyConfig = MISSING
    workload: WorkloadConfig = MISSING
    engine: EngineConfig = MISSING
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    slo: SloConfig = field(default_factory=SloConfig)
    run: RunConfig = field(default_factory=RunConfig)
    experiment: str | None = None  # its name, for the record
    seed: int = 0  # of the trace and of seeded policies
    repeat: int = 0  # tells equal runs apart
    figures: str = "outputs/figures"  # folder of the sweeps' figures
    objective: str = "e2e_mean_s"  # the metric `main` returns to an optimising sweeper

    def __post_init__(self) -> None:
        python = self.engine.python
        if python is not None and self.cluster.address is None:  # a cluster's nodes have their own files
            require(
                shutil.which(python) is not None,
                "engine.python", python, "an interpreter on this machine (`make env-sglang` makes SGLang's)",
            )  # fmt: skip
