"""What is kept of a run, or of a sweep that ended, until the MLflow store has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FACTS_FILE = "record.json"
FILES_FOLDER = "files"


SERVED_TAGS = ("served_from_t", "served_until_t")
"""When an engine took a run up and when it gave the result back, in seconds since the epoch."""


@dataclass(frozen=True)
class TraceFacts:
    """What the store says of a trace. Counts are sums over its requests; traces that differ in token ids
    and declarations alone have one `shape`."""

    name: str
    seed: int
    hash: str
    requests: int
    prompt_tokens: int
    output_tokens: int
    shape: str = ""  # not known of what was spooled before there was one


@dataclass(frozen=True)
class RunFacts:
    """What the store says of a run before it starts; `config` is its whole configuration as plain data."""

    name: str
    config_hash: str
    config: dict[str, Any]
    tags: dict[str, str]
    trace: TraceFacts


@dataclass(frozen=True)
class Finished:
    """What a finished run says of itself: its metrics (`math.inf` where they are censored) and tags."""

    metrics: dict[str, float]
    tags: dict[str, str]


@dataclass
class Record:
    """One entry for the store: a run with all it left, or (without `run`) the end of its sweep.

    `status` is MLflow's ("FINISHED", "FAILED", "KILLED"), times are milliseconds since the epoch,
    `files` maps artifact paths to their content. What the store logs as tables is named in `tables`.
    """

    sweep_id: str
    status: str
    started_ms: int
    ended_ms: int
    run: RunFacts | None = None
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Writes the record into `folder`, which must not exist."""
        facts = {key: value for key, value in vars(self).items() if key not in ("files", "run")}
        facts["run"] = asdict(self.run) if self.run else None
        folder.mkdir(parents=True)
        (folder / FACTS_FILE).write_text(json.dumps(facts, default=str))
        for name, content in self.files.items():
            path = folder / FILES_FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @classmethod
    def load(cls, folder: Path) -> Record:
        """Reads what `save` wrote; `files` stays empty: the store takes them from `files_of(folder)`."""
        facts = json.loads((folder / FACTS_FILE).read_text())
        return cls(run=_run_facts(facts.pop("run")), **facts)


def files_of(folder: Path) -> Path | None:
    """The folder of a saved record's files; None if it has none."""
    files = folder / FILES_FOLDER
    return files if files.is_dir() else None


def _run_facts(values: Mapping[str, Any] | None) -> RunFacts | None:
    if values is None:
        return None
    return RunFacts(**{**values, "trace": TraceFacts(**values["trace"])})


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay as they are."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
