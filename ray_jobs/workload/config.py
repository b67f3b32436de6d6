"""What a workload is made of: arrivals, lengths and what clients declare. Hydra fills it from `conf/`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from ray_jobs.workload.session_config import SessionsConfig
from ray_jobs.workload.source_config import SourceConfig
from ray_jobs.workload.sources import has_file, has_sessions, has_times, source_kinds
from tracking.errors import require, require_one_of

ARRIVAL_KINDS = ("poisson", "gamma", "constant", "closed_loop", "replay", "sessions")
KINDS_WITH_RATE = ("poisson", "gamma", "constant", "sessions")
KINDS_WITH_SHARE = ("poisson", "gamma", "constant", "replay")
DECLARED_KINDS = ("exact", "fixed", "slack")
FITS = ("error", "truncate", "drop")
MOST_SEED = 2**53  # more is another number in JSON, and in a column of a table
MOST_REQUESTS = 10**7  # of a run: more do not fit in memory
SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


@dataclass
class ArrivalConfig:
    """When requests arrive.

    poisson, gamma and constant follow `workload.rate`; closed_loop keeps `users` busy instead;
    replay uses the source's own timestamps. sessions begin as a Poisson process of `workload.rate`
    sessions a second; each of their turns is sent after the answers it waits for.
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
        allowed = 1 <= self.users <= MOST_REQUESTS
        require(allowed, "workload.arrivals.users", self.users, f"from 1 to {MOST_REQUESTS:,}")
        require(
            0 <= self.think_time_s < math.inf, "workload.arrivals.think_time_s", self.think_time_s, ">= 0"
        )


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
    """A workload; `ray_jobs.workload.freeze.freeze_trace` turns it into a trace."""

    name: str = MISSING
    num_requests: int | None = 100  # warm-up included; null = all of a file; see SessionsConfig for sessions
    warmup_requests: int = 0  # the first ones, left out of the metrics
    warmup_s: float = 0.0  # also left out: what arrives before this time
    load: str = "medium"  # a name in `loads`, or a share of the engine's capacity, e.g. 95%
    loads: dict[str, float] = field(default_factory=dict)  # req/s by name
    # Requests a second, of sessions: sessions a second; null = that of `load`, which replaces it where it
    # is a share of the capacity; becomes 0 where arrivals follow no rate.
    rate: float | None = None
    capacity: float | None = (
        None  # req/s that a `load` of 100% is; null = found by ray_jobs/drive/capacity.py
    )
    arrivals: ArrivalConfig = field(default_factory=ArrivalConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    declared: DeclaredConfig = field(default_factory=DeclaredConfig)
    sessions: SessionsConfig = field(default_factory=SessionsConfig)
    length_scale: float = 1.0  # multiplies prompts, outputs and fixed max_tokens, to suit a small model
    max_prompt_tokens: int | None = None  # longer prompts are cut, or dropped, or an error: see `fit`
    fit: str = "error"  # a request too long for the model: error, truncate its prompt, or drop it

    def __post_init__(self) -> None:
        for name in self.loads:
            require(0 < self.loads[name] < math.inf, f"workload.loads.{name}", self.loads[name], "> 0")
        if self.source.kind == "csv" == self.name:
            self.name = Path(self.source.path).stem  # several logs are told apart
        self._set_rate()
        if self.arrivals.kind == "replay":
            require(
                has_times(self.source.kind), "workload.source.kind", self.source.kind,
                ", ".join(filter(has_times, source_kinds())) + " when workload.arrivals.kind=replay, which needs timestamps",
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
        if self.source.kind == "sessions":
            require(
                self.source.conversation is not None,
                "workload.source.conversation", None, "given for a source of sessions",
            )  # fmt: skip
        if has_sessions(self.source.kind) != (self.arrivals.kind == "sessions"):
            require_one_of(
                "workload.arrivals.kind", self.arrivals.kind,
                ["sessions"] if has_sessions(self.source.kind) else [k for k in ARRIVAL_KINDS if k != "sessions"],
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

    @property
    def load_share(self) -> float | None:
        """`load` as a share of the capacity, 0.95 for "95%"; None if it is a name."""
        share = SHARE.fullmatch(self.load)
        return float(share[1]) / 100 if share else None

    def _set_rate(self) -> None:
        share = self.load_share
        if share is not None:
            require(0 < share < math.inf, "workload.load", self.load, "above 0%")
            require(
                self.arrivals.kind in KINDS_WITH_SHARE, "workload.load", self.load,
                f"a name for workload.arrivals.kind={self.arrivals.kind}, whose clients wait for their answers: "
                "a share of the capacity is for " + ", ".join(KINDS_WITH_SHARE),
            )  # fmt: skip
            if self.capacity is not None:
                require(0 < self.capacity < math.inf, "workload.capacity", self.capacity, "> 0 or null")
            self.rate = None if self.capacity is None else float(f"{share * self.capacity:.4g}")
            return
        if self.loads:
            require(
                self.load in self.loads, "workload.load", self.load,
                "one of " + ", ".join(self.loads) + ", or a share of the capacity, e.g. 95%",
            )  # fmt: skip
        if self.arrivals.kind == "closed_loop":
            require(
                not self.rate, "workload.rate", self.rate,
                "null for workload.arrivals.kind=closed_loop, whose users send when they are answered "
                "(set workload.arrivals.users, or choose a workload with a rate: workload=mixed)",
            )  # fmt: skip
        if self.arrivals.kind not in KINDS_WITH_RATE or self.source.kind == "frozen":
            self.rate = 0.0
            return
        self.rate = self.loads.get(self.load) if self.rate is None else self.rate
        require(
            self.rate is not None and 0 < self.rate < math.inf, "workload.rate", self.rate,
            "> 0 requests a second",
        )  # fmt: skip

    def _check_counts(self) -> None:
        if self.num_requests is None:
            require(
                has_file(self.source.kind) or self.sessions.count is not None, "workload.num_requests", None,
                "a number for a mixture, and for sessions without workload.sessions.count",
            )  # fmt: skip
        else:
            allowed = 1 <= self.num_requests <= MOST_REQUESTS
            require(allowed, "workload.num_requests", self.num_requests, f"from 1 to {MOST_REQUESTS:,}")
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
