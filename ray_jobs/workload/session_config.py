"""What conversations are made of: how many, their turns, think times and sub-agents."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import MISSING

from ray_jobs.workload.length_config import DurationConfig, LengthConfig
from tracking.errors import require, require_one_of

ANSWERS = ("recorded", "live")


@dataclass
class SessionsConfig:
    """How the sessions of a workload are sent, wherever they come from.

    A turn's prompt contains the answers before it: those of the trace (recorded), or what the engine
    said in this very run (live; real engines only). Sessions are whole: with `workload.num_requests`
    no further one is taken once there are as many requests, be `count` reached or not.
    """

    count: int | None = None  # sessions; null = all of a file, or as `workload.num_requests` says
    answers: str = "recorded"
    max_turns: int | None = None  # a session ends after so many requests, those of sub-agents included
    max_think_s: float | None = None  # longer think times are cut to this
    think_scale: float = (
        1.0  # times the think times: an eighth beside workload.length_scale=0.125 keeps their proportions
    )

    def __post_init__(self) -> None:
        require_one_of("workload.sessions.answers", self.answers, ANSWERS)
        for key in ("count", "max_turns"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"workload.sessions.{key}", value, ">= 1 or null")
        think = self.max_think_s
        require(
            think is None or 0 <= think < math.inf, "workload.sessions.max_think_s", think, ">= 0 or null"
        )
        require(0 <= self.think_scale < math.inf, "workload.sessions.think_scale", self.think_scale, ">= 0")


@dataclass
class AgentsConfig:
    """Sub-agents that a turn's answer may start: each has turns of its own, and the next turn waits for all."""

    share: float = 0.0  # of the turns that start any
    count: LengthConfig = MISSING  # how many at once
    turns: LengthConfig = MISSING  # of each

    def check(self, key: str) -> None:
        """Raises ValueError; `key` is where this config hangs."""
        require(0 <= self.share <= 1, f"{key}.share", self.share, "from 0 to 1")
        self.count.check(f"{key}.count")
        self.turns.check(f"{key}.turns")


@dataclass
class ConversationConfig:
    """One kind of conversation, drawn turn by turn. Lengths in tokens.

    The first prompt is `system_tokens` that all conversations have in common, and `first`. Every later
    one is the prompt and the answer before it, and `added`: what the user or a tool says.
    """

    system_tokens: int = 0
    turns: LengthConfig = MISSING
    first: LengthConfig = MISSING
    added: LengthConfig = MISSING
    output: LengthConfig = MISSING
    think_s: DurationConfig = MISSING
    agents: AgentsConfig | None = None

    def check(self, key: str) -> None:
        """Raises ValueError; `key` is where this config hangs."""
        require(self.system_tokens >= 0, f"{key}.system_tokens", self.system_tokens, ">= 0")
        for name in ("turns", "first", "added", "output", "think_s"):
            getattr(self, name).check(f"{key}.{name}")
        if self.agents is not None:
            self.agents.check(f"{key}.agents")
