"""Configuration of `tracking.compare` and `tracking.report`. Hydra fills it from `conf/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ray_jobs.config import TrackingConfig, require
from tracking.metrics import METRICS

COMPARED = (
    "ttft_mean_s", "ttft_p90_s", "tpot_mean_s", "e2e_mean_s", "e2e_p90_s", "norm_latency_mean",
    "throughput_tok_s", "slo_attainment", "goodput_req_s", "preemptions", "preemptions_max",
    "nominal_tax", "executed_tax", "jain_slowdown", "hol_blocked_s",
)  # fmt: skip


@dataclass
class GuardrailRule:
    """A limit on strategy / baseline of one metric, fixed before the results are seen."""

    metric: str = MISSING
    min_ratio: float | None = None
    max_ratio: float | None = None

    def __post_init__(self) -> None:
        key, allowed = "guardrails.rules.metric", "one of " + ", ".join(METRICS)
        require(self.metric in METRICS, key, self.metric, allowed)
        limits = (self.min_ratio, self.max_ratio)
        require(limits.count(None) == 1, "guardrails.rules", self.metric, "given one of min_ratio, max_ratio")


@dataclass
class GuardrailsConfig:
    """The rules that `compare` checks beside its verdicts."""

    rules: list[GuardrailRule] = field(default_factory=list)


@dataclass
class CompareConfig:
    """What to compare: the strategies of one or more sweeps against `baseline`."""

    baseline: str = MISSING
    sweep: Any = "latest"  # "latest", a run id (or its beginning), a name, or a list of these
    strategies: list[str] | None = None  # null = all
    metrics: Any = field(
        default_factory=lambda: list(COMPARED)
    )  # a list of names of tracking.metrics.METRICS, or "all"
    guardrails: GuardrailsConfig = field(default_factory=GuardrailsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if self.metrics == "all":
            self.metrics = list(METRICS)
        for name in self.metrics:
            require(name in METRICS, "metrics", name, "all, or of " + ", ".join(METRICS))
        self.sweep = [self.sweep] if isinstance(self.sweep, str) else [str(name) for name in self.sweep]


@dataclass
class ReportConfig(CompareConfig):
    """A comparison, and where its page goes."""

    run: str | None = None  # run id (or its beginning) whose timeline is shown; null = a baseline run
    folder: str = "outputs/report"  # report.html and report.md are written into it
