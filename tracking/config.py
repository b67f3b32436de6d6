"""Configuration of `tracking.compare` and `tracking.report`. Hydra fills it from `conf/`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import OmegaConf

from tracking.cli import CONF
from tracking.errors import require, require_one_of
from tracking.evidence.config import EvidencePlan, GuardrailsConfig
from tracking.metrics.catalogue import METRICS
from tracking.places import require_folder
from tracking.store.config import TrackingConfig

COMPARED = (
    "e2e_rmst_s", "e2e_mean_s", "e2e_p90_s", "ttft_rmst_s", "ttft_mean_s", "ttft_p90_s", "tpot_mean_s",
    "norm_latency_mean", "failed_share", "throughput_tok_s", "slo_attainment", "goodput_req_s", "preemptions", "preemptions_max",
    "nominal_tax", "executed_tax", "jain_slowdown", "hol_blocked_s",
)  # fmt: skip
FORMATS = ("text", "json", "csv")
FAILURES = (
    "worse", "broken", "unsure", "not measured", "too few runs", "no difference shown", "no baseline", "degraded",
)  # fmt: skip


@dataclass
class ComparisonConfig(EvidencePlan):
    """What to compare: the strategies of one or more sweeps against `baseline`."""

    baseline: str | None = None  # null = stock, else preempt-evict, else the sweep's first strategy
    sweep: Any = "latest"  # "latest", a run id (or its beginning), a name, or a list of these
    strategies: list[str] | None = None  # null = all
    metrics: Any = field(
        default_factory=lambda: list(COMPARED)
    )  # a list of names of tracking.metrics.catalogue.METRICS, or "all"; `primary` is always there
    guardrails: GuardrailsConfig = field(default_factory=GuardrailsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metrics == "all":
            self.metrics = list(METRICS)
        for name in self.metrics:
            require(name in METRICS, "metrics", name, "all, or of " + ", ".join(METRICS))
        self.metrics = [*self.primaries, *(name for name in self.metrics if name not in self.primaries)]
        require(self.sweep != [], "sweep", self.sweep, "latest, a run id, a name, or a list of these")
        # The beginning of a run id may read as a number.
        self.sweep = [str(name) for name in (self.sweep if isinstance(self.sweep, list) else [self.sweep])]


@dataclass
class CompareConfig(ComparisonConfig):
    """A comparison, how it is printed, and which results make the command fail."""

    format: str = "text"  # or json, csv
    detail: bool = False  # text only: every metric, and how each guardrail was checked
    classes: bool = True  # who pays, class by class: reads the request table of every run
    across: str | None = (
        None  # a setting, such as engine.router.name: its levels and the policies in one table
    )
    fail_if: Any = field(
        default_factory=list
    )  # of FAILURES, in the primary metric or a guardrail: exit code 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("format", self.format, FORMATS)
        require(self.across != "", "across", self.across, "a setting, such as engine.router.name, or null")
        self.fail_if = [self.fail_if] if isinstance(self.fail_if, str) else list(self.fail_if or ())
        for word in self.fail_if:
            require_one_of("fail_if", word, FAILURES)


@dataclass
class ReportConfig(ComparisonConfig):
    """A comparison, and where its page goes."""

    run: str | None = None  # run id (or its beginning) whose timeline is shown; null = a baseline run
    folder: str = "outputs/report"  # each sweep has a folder of its own in it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.run != "", "run", self.run, "the id of a run, or null for one of the baseline")
        require_folder("folder", self.folder)


def declared_comparison(tracking: TrackingConfig, sweep: str, baseline: str | None = None) -> CompareConfig:
    """A comparison of one sweep in its primary metric, with the evidence and guardrails that `conf/` declares."""
    declared = [OmegaConf.load(CONF / "evidence" / "default.yaml")]
    declared.append({"guardrails": OmegaConf.load(CONF / "guardrails" / "default.yaml")})
    chosen = {"tracking": asdict(tracking), "sweep": sweep, "baseline": baseline, "metrics": []}
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CompareConfig), *declared, chosen))
