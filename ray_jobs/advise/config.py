"""Configuration of `ray_jobs.recommend`: what is searched, for how long, and what counts as better."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bidkv import create_default_registry
from bidkv.policy_file import is_reference
from bidkv.retention.lru import Lru
from ray_jobs.drive.config import CapacityConfig, ClusterConfig
from ray_jobs.engines.job import JobConfig, StrategyConfig
from ray_jobs.workload.config import MOST_REQUESTS
from ray_jobs.workload.sources import has_sessions
from tracking.errors import require, require_one_of
from tracking.evidence.config import OF_SESSIONS, GuardrailsConfig
from tracking.metrics.config import SloConfig
from tracking.places import require_file
from tracking.store.config import TrackingConfig

OBJECTIVES = {"mean": "e2e_rmst_s", "p99": "e2e_p99_s", "goodput": "goodput_req_s"}
"""The metric of each objective: mean E2E up to the request timeout, p99 E2E, requests within the SLO a second. Of a workload
of sessions the mean is that of a whole one, as in verdicts: clients wait for that."""
CONFIRMATIONS = ("sim", "real")
FORMATS = ("text", "json")
UNTIL = ("answer", "pressure")
SECONDS = {"": 1, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}
PROCESSES_A_CORE = 4  # more only wait, and each has an engine's memory
OWN = {
    "watermark": 0.0, "max_num_seqs": 1.0, "max_num_batched_tokens": 1.0, "retention": Lru.name, "kv_offload_gib": 0.0,
}  # fmt: skip
"""The settings of a space, and what stands in each for the engine as it is."""
SHORTEST_BUDGET_S = 30.0  # the simulators' start alone takes a third of it


@dataclass
class SpaceConfig:
    """The candidates: every strategy with every value of every setting. The first values are the engine's own.

    `sessions_only`, `retention` and `kv_offload_gib` are for workloads of sessions on an engine with a prefix cache:
    elsewhere nobody returns to what they keep.
    """

    strategies: dict[str, StrategyConfig] = field(default_factory=dict)
    always: str | None = None  # has its turn on fresh traces whatever the search found; not with sessions
    sessions_only: list[str] = field(default_factory=list)  # of the strategies
    retention: list[str] = field(default_factory=lambda: [Lru.name])  # rules beside each strategy's own
    kv_offload_gib: list[float] = field(default_factory=lambda: [0.0])  # host memory, if the engine has less
    watermark: list[float] = field(default_factory=lambda: [0.0])  # share of the KV cache, vLLM's --watermark
    max_num_seqs: list[float] = field(default_factory=lambda: [1.0])  # times the engine's
    max_num_batched_tokens: list[float] = field(default_factory=lambda: [1.0])  # times the engine's

    def __post_init__(self) -> None:
        require(len(self.strategies) > 0, "space.strategies", list(self.strategies), "at least one strategy")
        for name, strategy in self.strategies.items():
            require(
                not strategy.engine, f"space.strategies.{name}.engine", strategy.engine,
                "empty: settings of the engine have their own lists in `space`",
            )  # fmt: skip
        require(
            self.always is None or self.always in self.strategies, "space.always", self.always,
            f"null, or of {', '.join(self.strategies)}",
        )  # fmt: skip
        for name in self.sessions_only:
            require_one_of("space.sessions_only", name, self.strategies)
        registry = create_default_registry()
        servers_know = [name for name in registry.list_retentions() if not name.endswith("_oracle")]
        for rule in self.retention:
            if not is_reference(rule):
                require_one_of("space.retention", rule, servers_know)
        for gib in self.kv_offload_gib:
            require(gib >= 0, "space.kv_offload_gib", gib, ">= 0")
        for share in self.watermark:
            require(0 <= share < 1, "space.watermark", share, "in [0, 1)")
        for key in ("max_num_seqs", "max_num_batched_tokens"):
            for factor in getattr(self, key):
                require(factor > 0, f"space.{key}", factor, "> 0 times the engine's")
        for key, own in OWN.items():
            values = getattr(self, key)
            require(
                values[:1] == [own] and len(set(values)) == len(values), f"space.{key}", values,
                f"different values, the first {own if isinstance(own, str) else f'{own:g}'}: the engine as it is",
            )  # fmt: skip


@dataclass
class RungConfig:
    """One round of the search: who is in it is measured on `seeds` traces, and the best `keep` go on.

    With `grow`, each that comes in brings along all that differ from it in one more setting.
    """

    seeds: int = 1
    keep: int = 1
    grow: bool = False

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "search.rungs.seeds", self.seeds, ">= 1")
        require(self.keep >= 1, "search.rungs.keep", self.keep, ">= 1")


@dataclass
class SearchConfig:
    """The rounds of the search, and how long the runs of each part are.

    `requests` are those of one run, a tenth of them warm-up; null = the workload's own. Sessions always
    have the workload's.
    """

    rungs: list[RungConfig] = field(default_factory=list)
    per_setting: float = 0.01  # the least share that each changed setting of the engine must gain
    requests: int | None = 600
    confirm_requests: int | None = 1200
    confirm_seeds: int = 8  # traces that the search has not seen
    rate_requests: int | None = 600
    rate_seeds: int = 4  # traces on which the highest rate within the SLO is looked for
    precision: float = 0.02  # of that rate
    real_requests: int | None = 320  # of a run on a real engine, with confirm=real
    real_timeout_s: float = 900.0

    def __post_init__(self) -> None:
        require(len(self.rungs) > 0, "search.rungs", self.rungs, "at least one round")
        require(0 <= self.per_setting < 1, "search.per_setting", self.per_setting, "in [0, 1)")
        for key in ("requests", "confirm_requests", "rate_requests", "real_requests"):
            value = getattr(self, key)
            allowed = value is None or 20 <= value <= MOST_REQUESTS
            require(allowed, f"search.{key}", value, f"from 20 to {MOST_REQUESTS:,}, or null")
        require(self.confirm_seeds >= 2, "search.confirm_seeds", self.confirm_seeds, ">= 2")
        require(self.real_timeout_s > 0, "search.real_timeout_s", self.real_timeout_s, "> 0")
        require(self.rate_seeds >= 0, "search.rate_seeds", self.rate_seeds, ">= 0 (0 leaves it out)")
        require(0.001 <= self.precision <= 0.2, "search.precision", self.precision, "from 0.001 to 0.2")


@dataclass
class RecommendConfig(JobConfig):
    """A workload, an engine as it is now (`strategy` is its stock), and how its settings are judged."""

    budget: Any = "2min"  # 90, 90s, 10min, 1h: all together, from the command's start on
    until: str = "answer"  # pressure: only whether anybody waits for memory, in a few runs of stock
    deployed: str | None = None  # as conf/deployed has the engine, for the record
    objective: str = "mean"
    confirm: str = "sim"  # real: the recommendation once more, on `engine` itself
    practical: float = 0.005  # the smallest gain that matters, as a share of stock
    slo: SloConfig = field(default_factory=SloConfig)
    slo_share: float = 0.95  # of the requests; a rate meets the SLO if so many do
    guardrails: GuardrailsConfig = field(default_factory=GuardrailsConfig)
    space: SpaceConfig = MISSING
    search: SearchConfig = MISSING
    processes: int | None = None  # null = one a core
    model: str | None = None  # as the printed command names it; null = where the engine's shape is from
    format: str = "text"
    out: str | None = None  # a file that gets the answer as JSON, besides
    cluster: ClusterConfig = field(default_factory=ClusterConfig)  # of confirm=real, as the next
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    capacity: CapacityConfig = field(default_factory=CapacityConfig)  # for a load that is a share of it

    def __post_init__(self) -> None:
        super().__post_init__()
        self.budget_s = seconds_of(self.budget)
        require_one_of("until", self.until, UNTIL)
        require_one_of("objective", self.objective, OBJECTIVES)
        require_one_of("confirm", self.confirm, CONFIRMATIONS)
        require_one_of("format", self.format, FORMATS)
        require(0 <= self.practical < 1, "practical", self.practical, "in [0, 1)")
        require(0 < self.slo_share <= 1, "slo_share", self.slo_share, "in (0, 1]")
        most = PROCESSES_A_CORE * len(os.sched_getaffinity(0))
        allowed = self.processes is None or 1 <= self.processes <= most
        require(allowed, "processes", self.processes, f"from 1 to {most}, {PROCESSES_A_CORE} a core, or null")
        require(self.model is None or bool(self.model.strip()), "model", self.model, "not empty, or null")
        if self.out is not None:
            require_file("out", self.out)
        engine = self.engine
        require(
            engine.kind in ("vllm", "vllm_sim"), "engine.kind", engine.kind,
            "vllm or vllm_sim: the search runs on a simulation of vLLM's scheduler",
        )  # fmt: skip
        require(
            engine.replicas == 1, "engine.replicas", engine.replicas,
            "1: the search simulates one engine; bidkv-bench compares strategies on several",
        )  # fmt: skip
        require(
            engine.disaggregation.engines == 0,
            "engine.disaggregation.prefill", engine.disaggregation.prefill,
            "0: the search simulates one engine; bidkv-bench compares strategies on several",
        )  # fmt: skip
        require(
            engine.sim is not None, "engine.sim", None,
            "given, for the search simulates the engine: +model_shape@engine.sim.model_shape=... "
            "+hardware@engine.sim.hardware=..., or start from engine=vllm_shape or engine=vllm_sim",
        )  # fmt: skip
        require(
            self.confirm == "sim" or engine.kind != "vllm_sim", "confirm", self.confirm,
            "sim with engine=vllm_sim; a real engine is, for example, engine=vllm_shape",
        )  # fmt: skip


def metric_of(config: RecommendConfig) -> str:
    """What the objective is measured by."""
    if config.objective == "mean" and has_sessions(config.workload.source.kind):
        return OF_SESSIONS
    return OBJECTIVES[config.objective]


def seconds_of(budget: Any) -> float:
    """A duration such as 90, "90s", "2min" or "1h" in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(budget).strip().lower())
    known = match is not None and match[2] in SECONDS
    seconds = float(match[1]) * SECONDS[match[2]] if known else 0.0
    require(
        seconds >= SHORTEST_BUDGET_S, "budget", budget,
        f"a duration of at least {SHORTEST_BUDGET_S:g} s, such as 90s, 2min or 1h",
    )  # fmt: skip
    return seconds
