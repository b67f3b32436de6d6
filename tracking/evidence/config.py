"""What is decided before any result is seen: the primary metric, what matters, and the guardrails."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from tracking.errors import require
from tracking.metrics.catalogue import METRICS

DEFAULT = "default"


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

    @property
    def limit(self) -> float:
        return self.min_ratio if self.max_ratio is None else self.max_ratio


@dataclass
class GuardrailsConfig:
    """The rules that `compare` checks beside its verdicts."""

    rules: list[GuardrailRule] = field(default_factory=list)


@dataclass
class EvidencePlan:
    """The metric whose verdicts count, and the smallest difference that matters in each metric.

    `practical` maps metrics to shares of the baseline (0.005 = half a percent); "default" is for the
    others. Verdicts in any other metric than `primary` are exploratory.
    """

    primary: str = "e2e_rmst_s"
    practical: dict[str, float] = field(default_factory=lambda: {DEFAULT: 0.005})

    def __post_init__(self) -> None:
        names = ", ".join(name for name, metric in METRICS.items() if metric.better != "none")
        better = self.primary in METRICS and METRICS[self.primary].better != "none"
        require(better, "primary", self.primary, f"one of {names}")
        for name, share in self.practical.items():
            require(name in METRICS or name == DEFAULT, "practical", name, f"{DEFAULT}, or one of {names}")
            require(0 <= share < 1, f"practical.{name}", share, "in [0, 1)")

    def matters(self, metric: str) -> float:
        return self.practical.get(metric, self.practical.get(DEFAULT, 0.0))
