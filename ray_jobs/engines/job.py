"""What an engine is given to run: a strategy, a workload, deadlines."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields, replace
from typing import Any

from omegaconf import MISSING

from bidkv import create_default_registry
from bidkv.adapters.sglang.eviction import COUNTERPARTS, server_arguments
from bidkv.policy_file import absolute, digest, is_reference
from bidkv.retention.lru import Lru
from bidkv.strategies.base import Strategy
from ray_jobs.engines.config import PASS_ENV, EngineConfig
from ray_jobs.workload.config import MOST_SEED, WorkloadConfig
from tracking.errors import require, require_one_of
from tracking.secrets import check_names

UNTIL = ("requests", "precision")
KNOBS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "prefix_caching",
    "kv_offload_gib",
    "kv_offload_eviction",
    "adapter",
)
"""Keys of `engine` that a strategy may have for itself; all that are no keys of `engine` go to `engine.extra`."""

PARAMS_OF = {"params": "victim", "admission_params": "admission", "retention_params": "retention"}
"""Which policy of a strategy each key has the parameters of."""


@dataclass
class StrategyConfig:
    """An admission order, a victim policy, a rule of retention and the parameters of each; also settings of the engine
    to compare.

    Each may be a class in a file, `my_policy.py:MyVictim`, which every node must then have.
    """

    name: str = MISSING
    admission: str = MISSING
    victim: str = MISSING
    retention: str = "lru"  # whose cached blocks go first; lru = the engine's own
    params: dict[str, Any] = field(default_factory=dict)  # the victim policy's
    admission_params: dict[str, Any] = field(default_factory=dict)
    retention_params: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)  # the engine's own knobs, e.g. {watermark: 0.02}
    kill_switch: bool = False  # the engine decides, the adapter only keeps records
    label: str | None = None  # how results name it; derived from the pair when absent
    files: dict[str, str] = field(default_factory=dict)  # of parts that are classes in files: the text's hash

    def __post_init__(self) -> None:
        registry = create_default_registry()
        for half, value, allowed in (
            ("admission", self.admission, registry.list_admissions()),
            ("victim", self.victim, registry.list_victims()),
            ("retention", self.retention, registry.list_retentions()),
        ):
            if not is_reference(value):
                require_one_of(f"strategy.{half}", value, allowed)
                continue
            setattr(self, half, absolute(value))
        self._leave_out_defaults(registry)
        self.rules()
        self.files = {
            half: digest(getattr(self, half))
            for half in ("admission", "victim", "retention")
            if is_reference(getattr(self, half))
        }
        fixed = {f.name for f in fields(EngineConfig)} - set(KNOBS)
        for key in self.engine:
            require(
                key not in fixed, "strategy.engine", key,
                "one of " + ", ".join(KNOBS) + " or an argument of the engine's: in one comparison all else is equal",
            )  # fmt: skip
        check_names("strategy.engine", self.engine, PASS_ENV)
        if self.label is not None:
            require(bool(self.label.strip()), "strategy.label", self.label, "not empty, or null")
        if self.label is None:
            self.label = self._derived_label(registry)

    def rules(self) -> Strategy:
        """The three with their parameters. Raises `BidValidationError` on those that they do not have."""
        return create_default_registry().pair(
            self.admission,
            self.victim,
            self.retention,
            admission_params=self.admission_params,
            retention_params=self.retention_params,
            **self.params,
        )

    def _leave_out_defaults(self, registry: Any) -> None:
        """What `conf/strategy` declares of the named strategy's halves, which may have been replaced by others."""
        if self.name not in registry.list_strategies():
            return
        named = registry.get(self.name)
        for key, half in PARAMS_OF.items():
            declared = defaults(getattr(named, half))
            own = {k: v for k, v in getattr(self, key).items() if k not in declared or declared[k] != v}
            setattr(self, key, own)

    def _derived_label(self, registry: Any) -> str:
        """The strategy's name, with whatever differs from what the name stands for."""
        marks = []
        pair = registry.pair(self.admission, self.victim, self.retention)
        if self.name in registry.list_strategies():
            named = registry.get(self.name)
            for half in PARAMS_OF.values():
                if getattr(self, half) != getattr(named, half).name:
                    marks.append(f"{half}={getattr(pair, half).name}")
        marks += changed(pair.admission, self.admission_params, "admission.")
        marks += changed(pair.victim, self.params, "")
        marks += changed(pair.retention, self.retention_params, "retention.")
        if self.name in registry.list_strategies():
            marks += [f"{key}={value}" for key, value in sorted(self.engine.items())]
        return self.name + (f"[{','.join(marks)}]" if marks else "")


def changed(policy: Any, params: dict[str, Any], prefix: str) -> list[str]:
    """`prefix` + key=value of the parameters that differ from the policy's defaults."""
    known = defaults(policy)
    return [f"{prefix}{key}={value}" for key, value in sorted(params.items()) if known.get(key) != value]


def defaults(policy: Any) -> dict[str, Any]:
    """The parameters of a policy's class, with what each is if nothing is said."""
    parameters = inspect.signature(type(policy)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


@dataclass
class RunConfig:
    """Deadlines of one run (seconds), how often a run that failed is tried, and how long a run is.

    until=precision: as few requests as give stock vLLM a mean E2E within `precision` and, if that is asked for,
    a p99 E2E within `p99_precision` (0.2 over 12 seeds is what a p99 guardrail of 10 % takes), from `min_requests` to
    `workload.num_requests`, the same for all strategies and seeds; see ray_jobs/drive/lengths.py.
    """

    timeout_s: float = 900.0
    request_timeout_s: float = 300.0
    attempts: int = 2
    until: str = "requests"
    precision: float = 0.05  # half-width of the 95 % interval of the mean, as a share of it
    p99_precision: float | None = None  # the same of p99 E2E; null = it is not asked
    min_requests: int = 400
    log_schedule: bool = False  # record every step's schedule (large; for the simulator's checks)

    def __post_init__(self) -> None:
        require(self.timeout_s > 0, "run.timeout_s", self.timeout_s, "> 0")
        require(self.request_timeout_s >= 0.01, "run.request_timeout_s", self.request_timeout_s, ">= 0.01")
        require(self.attempts >= 1, "run.attempts", self.attempts, ">= 1")
        require_one_of("run.until", self.until, UNTIL)
        require(0.001 <= self.precision < 1, "run.precision", self.precision, "from 0.001 to below 1")
        if self.p99_precision is not None:
            allowed = 0.001 <= self.p99_precision < 1
            require(allowed, "run.p99_precision", self.p99_precision, "from 0.001 to below 1, or null")
        require(self.min_requests >= 100, "run.min_requests", self.min_requests, ">= 100")


@dataclass
class JobConfig:
    """One run as its engine sees it."""

    strategy: StrategyConfig = MISSING
    workload: WorkloadConfig = MISSING
    engine: EngineConfig = MISSING
    run: RunConfig = field(default_factory=RunConfig)
    seed: int = 0  # of the trace and of seeded policies
    repeat: int = 0  # tells equal runs apart

    @property
    def engine_used(self) -> EngineConfig:
        """The engine with the strategy's own settings: what the run needs. Raises ValueError if they do not fit.

        SGLang has its rule of retention from its start.
        """
        own = self.strategy.engine
        knobs = {key: value for key, value in own.items() if key in KNOBS}
        extra = {key: value for key, value in own.items() if key not in KNOBS}
        if self.engine.is_sglang and not self.strategy.kill_switch:
            extra = server_arguments(self.strategy.rules().retention) | extra
        return (
            replace(self.engine, **knobs, extra=self.engine.extra | extra) if knobs or extra else self.engine
        )

    def __post_init__(self) -> None:
        require(0 <= self.seed <= MOST_SEED, "seed", self.seed, f"from 0 to {MOST_SEED}")
        require(self.repeat >= 0, "repeat", self.repeat, ">= 0")
        retention = self.strategy.retention
        if retention != Lru.name and not self.strategy.kill_switch:
            require(
                not self.engine.is_sglang or retention in COUNTERPARTS,
                "strategy.retention", retention, f"on SGLang one that its radix tree has, too: {', '.join(COUNTERPARTS)}",
            )  # fmt: skip
            require(
                self.engine_used.prefix_caching,
                "strategy.retention", retention, "lru without a prefix cache; engine.prefix_caching=true has one",
            )  # fmt: skip
        sees_cache = create_default_registry().pair(self.strategy.admission, "lifo").admission.sees_cache
        if sees_cache and not self.strategy.kill_switch:
            admission = self.strategy.admission
            require(
                not self.engine.is_sglang,
                "strategy.admission", admission, "another on SGLang, which does not tell what is cached, such as backfill",
            )  # fmt: skip
            require(
                self.engine_used.prefix_caching,
                "strategy.admission", admission,
                "another without a prefix cache, such as backfill; engine.prefix_caching=true has one",
            )  # fmt: skip
        answers = self.workload.sessions.answers
        require(
            answers == "recorded" or self.engine.runs_for_real,
            "workload.sessions.answers", answers, "recorded: a simulation says nothing, and a server's words are not read",
        )  # fmt: skip
        if self.run.until == "precision":
            least, most = self.run.min_requests, self.workload.num_requests
            require(
                most is not None, "workload.num_requests", most,
                "a number with run.until=precision: the most requests that a run may have",
            )  # fmt: skip
            require(
                self.workload.warmup_requests < least <= most, "run.min_requests", least,
                f"above workload.warmup_requests={self.workload.warmup_requests} and at most "
                f"workload.num_requests={most}",
            )  # fmt: skip
