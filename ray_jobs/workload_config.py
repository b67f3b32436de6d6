"""What a workload is made of: arrivals, lengths and what clients declare. Hydra fills it from `conf/`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

ARRIVAL_KINDS = ("poisson", "gamma", "constant", "closed_loop", "replay")
KINDS_WITH_RATE = ("poisson", "gamma", "constant")
SOURCE_KINDS = ("mixture", "frozen", "azure", "mooncake", "sharegpt", "cnn_dm", "longbench")
KINDS_WITH_TIMES = ("frozen", "azure", "mooncake")
DECLARED_KINDS = ("exact", "fixed", "slack")
PICKS = ("head", "window", "random")
FITS = ("error", "truncate", "drop")


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raises `ValueError` with one line naming the key, the value and what is allowed."""
    if not condition:
        raise ValueError(f"{key}={value!r}: must be {allowed}")


def require_one_of(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    require(value in allowed, key, value, "one of " + ", ".join(allowed))


@dataclass
class ArrivalConfig:
    """When requests arrive.

    poisson, gamma and constant follow `workload.rate`; closed_loop keeps `users` busy instead;
    replay uses the source's own timestamps.
    """

    kind: str = "poisson"
    burstiness: float = (
        1.0  # gamma only: its shape; gaps vary by 1 / sqrt(shape), so 1 is Poisson, less is burstier
    )
    users: int = 8  # closed_loop only
    think_time_s: float = 0.0  # closed_loop only: between an answer and the user's next request
    time_scale: float = 1.0  # replay only: 0.5 replays twice as fast

    def __post_init__(self) -> None:
        require_one_of("workload.arrivals.kind", self.kind, ARRIVAL_KINDS)
        for key in ("burstiness", "time_scale"):
            value = getattr(self, key)
            require(0 < value < math.inf, f"workload.arrivals.{key}", value, "> 0")
        require(self.users >= 1, "workload.arrivals.users", self.users, ">= 1")
        require(
            0 <= self.think_time_s < math.inf, "workload.arrivals.think_time_s", self.think_time_s, ">= 0"
        )


@dataclass
class LengthConfig:
    """Token counts drawn from a lognormal of this median and log-sigma, cut off at `min` and `max`."""

    median: float = MISSING
    sigma: float = 0.0
    min: int = 1
    max: int = MISSING

    def check(self, key: str) -> None:
        """Raises ValueError; `key` is where this config hangs."""
        require(0 <= self.sigma < math.inf, f"{key}.sigma", self.sigma, ">= 0")
        require(self.min >= 1, f"{key}.min", self.min, ">= 1")
        require(self.max >= self.min, f"{key}.max", self.max, f">= {key}.min={self.min}")
        require(
            self.min <= self.median <= self.max, f"{key}.median", self.median,
            f"from {key}.min={self.min} to {key}.max={self.max}",
        )  # fmt: skip


@dataclass
class ComponentConfig:
    """One kind of request in a mixture. `weight` is relative to the other components'."""

    weight: float = 1.0
    prompt: LengthConfig = MISSING
    output: LengthConfig = MISSING
    max_tokens: int | None = None  # what its clients declare when workload.declared.kind is fixed
    shared_prefix: int = 0  # first prompt tokens that all its requests have in common, a system prompt
    priority: int = 0  # larger = less important
    deadline_s: float | None = None  # seconds after arrival

    def check(self, key: str) -> None:
        """Raises ValueError; `key` is where this config hangs."""
        require(0 <= self.weight < math.inf, f"{key}.weight", self.weight, ">= 0")
        require(self.shared_prefix >= 0, f"{key}.shared_prefix", self.shared_prefix, ">= 0")
        if self.max_tokens is not None:
            require(self.max_tokens >= 1, f"{key}.max_tokens", self.max_tokens, ">= 1 or null")
        if self.deadline_s is not None:
            require(self.deadline_s > 0, f"{key}.deadline_s", self.deadline_s, "> 0 or null")
        self.prompt.check(f"{key}.prompt")
        self.output.check(f"{key}.output")


@dataclass
class SourceConfig:
    """Where prompts and output lengths come from: a mixture of distributions, or a file."""

    kind: str = "mixture"
    components: dict[str, ComponentConfig] = field(default_factory=dict)  # mixture only, by name
    path: str | None = None  # every other kind
    pick: str = "random"  # of a file: its head, a window of neighbours at a random place, or a random sample
    tokenizer: str | None = (
        None  # text files: a tokenizer.json or its folder; null estimates, see sources/text.py
    )

    def __post_init__(self) -> None:
        require_one_of("workload.source.kind", self.kind, SOURCE_KINDS)
        require_one_of("workload.source.pick", self.pick, PICKS)
        for name, component in self.components.items():
            component.check(f"workload.source.components.{name}")
        if self.kind != "mixture":
            require(bool(self.path), "workload.source.path", self.path, f"the path of a {self.kind} file")


@dataclass
class DeclaredConfig:
    """What clients declare as `max_tokens`, which is all that policies may know of an output's length.

    exact: the true length. fixed: a constant, the component's or `max_tokens`. slack: the true length
    times `slack`, rounded up. Never below the true length, never above what the model's length leaves.
    """

    kind: str = "fixed"
    max_tokens: int = 512
    slack: float = 1.5

    def __post_init__(self) -> None:
        require_one_of("workload.declared.kind", self.kind, DECLARED_KINDS)
        require(self.max_tokens >= 1, "workload.declared.max_tokens", self.max_tokens, ">= 1")
        require(1 <= self.slack < math.inf, "workload.declared.slack", self.slack, ">= 1")


@dataclass
class WorkloadConfig:
    """A workload; `ray_jobs.workload.freeze_trace` turns it into a trace."""

    name: str = MISSING
    num_requests: int | None = 100  # warm-up included; null = all of a file
    warmup_requests: int = 0  # the first ones, left out of the metrics
    warmup_s: float = 0.0  # also left out: what arrives before this time
    load: str = "medium"  # a name in `loads`
    loads: dict[str, float] = field(default_factory=dict)  # req/s by name
    rate: float | None = None  # req/s; null = that of `load`; becomes 0 where arrivals follow no rate
    arrivals: ArrivalConfig = field(default_factory=ArrivalConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    declared: DeclaredConfig = field(default_factory=DeclaredConfig)
    length_scale: float = 1.0  # multiplies prompts, outputs and fixed max_tokens, to suit a small model
    max_prompt_tokens: int | None = None  # longer prompts are cut, or dropped, or an error: see `fit`
    fit: str = "error"  # a request too long for the model: error, truncate its prompt, or drop it

    def __post_init__(self) -> None:
        for name in self.loads:
            require(0 < self.loads[name] < math.inf, f"workload.loads.{name}", self.loads[name], "> 0")
        if self.loads:
            require_one_of("workload.load", self.load, tuple(self.loads))
        if self.arrivals.kind not in KINDS_WITH_RATE or self.source.kind == "frozen":
            self.rate = 0.0
        else:
            self.rate = self.loads.get(self.load) if self.rate is None else self.rate
            require(
                self.rate is not None and 0 < self.rate < math.inf, "workload.rate", self.rate,
                "> 0 requests a second",
            )  # fmt: skip
        if self.arrivals.kind == "replay":
            require(
                self.source.kind in KINDS_WITH_TIMES, "workload.source.kind", self.source.kind,
                ", ".join(KINDS_WITH_TIMES) + " when workload.arrivals.kind=replay, which needs timestamps",
            )  # fmt: skip
        if self.source.kind == "frozen":
            require(
                self.arrivals.kind == "replay", "workload.arrivals.kind", self.arrivals.kind,
                "replay, since a frozen trace has its arrivals",
            )  # fmt: skip
        if self.source.kind == "mixture":
            components = self.source.components
            require(
                sum(component.weight for component in components.values()) > 0,
                "workload.source.components", sorted(components), "given for a mixture, with weights above 0",
            )  # fmt: skip
        self._check_counts()
        require(0 < self.length_scale < math.inf, "workload.length_scale", self.length_scale, "> 0")
        if self.max_prompt_tokens is not None:
            require(
                self.max_prompt_tokens >= 1,
                "workload.max_prompt_tokens",
                self.max_prompt_tokens,
                ">= 1 or null",
            )
        require_one_of("workload.fit", self.fit, FITS)

    def _check_counts(self) -> None:
        if self.num_requests is None:
            require(self.source.kind != "mixture", "workload.num_requests", None, "a number for a mixture")
        else:
            require(self.num_requests >= 1, "workload.num_requests", self.num_requests, ">= 1")
            require(
                self.warmup_requests < self.num_requests, "workload.warmup_requests", self.warmup_requests,
                f"below workload.num_requests={self.num_requests}",
            )  # fmt: skip
        require(self.warmup_requests >= 0, "workload.warmup_requests", self.warmup_requests, ">= 0")
        require(0 <= self.warmup_s < math.inf, "workload.warmup_s", self.warmup_s, ">= 0")
        if self.arrivals.kind == "closed_loop":
            require(
                self.warmup_s == 0, "workload.warmup_s", self.warmup_s,
                "0 in a closed loop, whose arrival times are not known beforehand (use warmup_requests)",
            )  # fmt: skip
