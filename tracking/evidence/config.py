"""What is decided before any result is seen: the primary metric, what matters, and the guardrails."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from tracking.errors import require
from tracking.metrics.catalogue import METRICS, SESSION_METRICS

DEFAULT = "default"
AUTO = "auto"
USUAL, OF_SESSIONS = "e2e_rmst_s", "session_mean_s"
"""What `auto` is: where all runs have sessions, the time of a whole one counts, since clients wait for that."""


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

    def applies(self, with_sessions: bool) -> bool:
        """Whether a cell can have the metric: some are of sessions alone."""
        return with_sessions or self.metric not in SESSION_METRICS

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
    others. Verdicts in any other metric than `primary` are exploratory. `auto` goes by the cell, see `primary_of`.
    """

    primary: str = AUTO
    practical: dict[str, float] = field(default_factory=lambda: {DEFAULT: 0.005})

    def __post_init__(self) -> None:
        names = ", ".join(name for name, metric in METRICS.items() if metric.better != "none")
        better = self.primary in METRICS and METRICS[self.primary].better != "none"
        require(better or self.primary == AUTO, "primary", self.primary, f"{AUTO}, or one of {names}")
        for name, share in self.practical.items():
            require(name in METRICS or name == DEFAULT, "practical", name, f"{DEFAULT}, or one of {names}")
            require(0 <= share < 1, f"practical.{name}", share, "in [0, 1)")

    @property
    def primaries(self) -> tuple[str, ...]:
        """What is primary in some cell."""
        return (USUAL, OF_SESSIONS) if self.primary == AUTO else (self.primary,)

    def primary_of(self, with_sessions: bool) -> str:
        """The metric whose verdicts count in a cell all of whose runs have sessions, or not."""
        if self.primary != AUTO:
            return self.primary
        return OF_SESSIONS if with_sessions else USUAL

    def matters(self, metric: str) -> float:
        return self.practical.get(metric, self.practical.get(DEFAULT, 0.0))
