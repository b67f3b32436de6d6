"""Configuration of `bidkv-switchback`. Hydra fills it from `conf/switchback.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from bidkv.policy_file import is_reference
from ray_jobs.engines.config import check_url
from ray_jobs.engines.job import StrategyConfig
from ray_jobs.workload.config import MOST_SEED
from tracking.errors import require, require_one_of
from tracking.evidence.config import GuardrailsConfig
from tracking.evidence.statistics import MIN_PAIRS

FORMATS = ("text", "json")
GUARDED = ("e2e_mean_s", "completion_rate", "throughput_tok_s", "e2e_p99_s", "e2e_largest_s")
"""Metrics that a server's own records tell of live traffic."""


@dataclass
class HaltConfig:
    """What ends the experiment at once, in the middle of a block."""

    e2e_ratio: float = 5.0  # mean E2E of the block so far, by that of the slowest stock block, in no surge
    requests: int = 30  # of the block that have finished: fewer say nothing
    silence_s: float = (
        60.0  # nobody finished for so long, though stock would have ended `requests` in that time
    )

    def __post_init__(self) -> None:
        require(self.e2e_ratio > 1, "halt.e2e_ratio", self.e2e_ratio, "> 1")
        require(self.requests >= 10, "halt.requests", self.requests, ">= 10")
        require(self.silence_s > 0, "halt.silence_s", self.silence_s, "> 0")


@dataclass
class SwitchbackConfig:
    """A strategy against the engine's own choices, by turns on live traffic. Times in seconds."""

    strategy: StrategyConfig = MISSING
    control_file: str = MISSING  # the server's --bidkv-control
    events_file: str | None = None  # the server's --bidkv-events: every request; null = `url` alone
    url: str | None = None  # the server's address, for its /metrics; null = `events_file` alone
    hours: float = 24.0
    block_s: float = 300.0
    washout_s: float = 60.0  # of each block, in which the one before it still shows
    lease_s: float = (
        30.0  # a server that hears nothing from this tool for so long goes back to its own choices
    )
    look_s: float = 5.0
    seed: int | None = None  # of the order within pairs; null = drawn, and written down
    practical: float = 0.005  # the smallest difference in mean E2E that matters, as a share
    guardrails: GuardrailsConfig = field(default_factory=GuardrailsConfig)
    halt: HaltConfig = field(default_factory=HaltConfig)
    out: str = "outputs/switchback"  # folder of the journal
    format: str = "text"  # or json

    @property
    def pairs(self) -> int:
        return int(self.hours * 3600 // (2 * self.block_s) + 1e-9)

    def __post_init__(self) -> None:
        strategy = self.strategy
        require(
            not strategy.kill_switch, "strategy", strategy.label,
            "one to try: stock, the engine's own choices, is what it is compared with",
        )  # fmt: skip
        require(
            not strategy.engine,
            "strategy.engine",
            strategy.engine,
            "empty: a server that is up keeps its settings",
        )
        for half in ("admission", "victim", "retention"):
            name = getattr(strategy, half)
            require(
                not is_reference(name), f"strategy.{half}", name, "registered: a control file runs no code"
            )
        require(
            self.events_file is not None or self.url is not None, "events_file", None,
            "the server's --bidkv-events, or url=http://… for its /metrics: without either nothing is measured",
        )  # fmt: skip
        if self.url is not None:
            check_url("url", self.url)
        require(self.block_s > 0, "block_s", self.block_s, "> 0")
        require(
            0 <= self.washout_s < self.block_s,
            "washout_s",
            self.washout_s,
            f"from 0 to below block_s={self.block_s:g}",
        )
        require(
            0 < self.look_s <= self.block_s,
            "look_s",
            self.look_s,
            f"> 0 and at most block_s={self.block_s:g}",
        )
        require(
            self.lease_s >= 3 * self.look_s, "lease_s", self.lease_s,
            f"at least three times look_s={self.look_s:g}: it is renewed at each look, and one may be late",
        )  # fmt: skip
        least = MIN_PAIRS * 2 * self.block_s / 3600
        require(
            self.pairs >= MIN_PAIRS, "hours", self.hours,
            f"at least {least:g}: fewer than {MIN_PAIRS} pairs of blocks of {self.block_s:g} s give no verdict",
        )  # fmt: skip
        if self.seed is not None:
            require(0 <= self.seed <= MOST_SEED, "seed", self.seed, f"from 0 to {MOST_SEED}, or null")
        require(0 <= self.practical < 1, "practical", self.practical, "from 0 to below 1")
        for rule in self.guardrails.rules:
            require_one_of("guardrails.rules.metric", rule.metric, GUARDED)
        require_one_of("format", self.format, FORMATS)
