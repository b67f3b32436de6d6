"""Where the requests of a workload come from: a mixture, conversations, or a file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from omegaconf import MISSING

from ray_jobs.workload.length_config import LengthConfig
from ray_jobs.workload.session_config import ConversationConfig
from ray_jobs.workload.sources import find_source, has_file, of_the_file
from tracking.errors import require, require_one_of

PICKS = ("head", "window", "spread", "random")


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
class ColumnsConfig:
    """The names of a CSV file's columns; null = one of the usual names, see `sources/csv.py`. The last three may be absent."""

    arrival: str | None = None
    prompt: str | None = None
    output: str | None = None
    session: str | None = None
    kind: str | None = None  # a class of requests, for results by class
    declared: str | None = None  # max_tokens of the request


@dataclass
class SourceConfig:
    """Where prompts and output lengths come from: a mixture of distributions, or a file."""

    kind: str = "mixture"
    components: dict[str, ComponentConfig] = field(default_factory=dict)  # mixture only, by name
    conversation: ConversationConfig | None = None  # sessions only
    path: str | None = None  # of kinds that read a file
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)  # csv only
    pick: str = "random"  # of a file: head, window (neighbours that no other seed has), spread (short stretches of all of it), random (a sample)
    tokenizer: str | None = (
        None  # text files: a tokenizer.json or its folder; null estimates, see sources/shared/text.py
    )

    @property
    def has_windows(self) -> bool:
        """Whether each seed has neighbours of the file that no other seed has."""
        return self.pick == "window" and of_the_file(self.kind)

    def __post_init__(self) -> None:
        find_source(self.kind)
        require_one_of("workload.source.pick", self.pick, PICKS)
        for name, component in self.components.items():
            component.check(f"workload.source.components.{name}")
        if self.conversation is not None:
            self.conversation.check("workload.source.conversation")
        if has_file(self.kind):
            require(bool(self.path), "workload.source.path", self.path, f"the path of a {self.kind} file")
