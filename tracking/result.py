"""What one run of one strategy on one trace leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REQUEST_COLUMNS = (
    "request_id", "kind", "status", "error", "warmup",
    "scheduled_t", "sent_t", "first_token_t", "finish_t",
    "prompt_tokens", "output_tokens", "true_output_tokens", "max_tokens", "deadline_s", "itl_s",
    "cached_tokens", "executed_tokens", "recomputed_tokens",
    "preemptions", "preempted_s", "resume_delay_s",
    "session", "turn", "restored_tokens", "restored_resume_tokens", "earlier_tokens",
)  # fmt: skip


@dataclass
class RunResult:
    """Outcome of one run.

    `requests` has one row a request (`REQUEST_COLUMNS`; times in seconds since the run's start,
    NaN where a thing never happened; `deadline_s` in seconds after the scheduled arrival, NaN if none;
    `turn` from 0, in the line of its agent, NaN with an empty `session` if it belongs to none;
    `restored_tokens` came from host memory, `restored_resume_tokens` back from it after a preemption;
    `earlier_tokens` at the beginning of its prompt were in the prompt of the turn that it goes on from, too;
    stores written before a column was there lack it). `events` are the adapter's records, `steps` one
    row an engine step. `status` is "finished", "timeout" (the run's deadline passed) or "failed". A run of an
    engine without the adapter is not `recorded`: there is what the client saw, what the engine's own counters say
    (`counted`), and nothing else. `served_t` is when the
    engine's process took the run up and when it gave the result back (seconds since the epoch; real time in a
    simulation too).
    """

    status: str
    requests: pd.DataFrame
    events: list[dict[str, Any]] = field(default_factory=list)
    steps: pd.DataFrame = field(default_factory=pd.DataFrame)
    environment: dict[str, Any] = field(default_factory=dict)
    started_t: float = 0.0  # seconds since the epoch; events and steps use the same clock
    finished_t: float = 0.0
    error: str | None = None
    request_timeout_s: float | None = None  # after which the client gave up a request; None = not known
    recorded: bool = True
    served_t: tuple[float, float] | None = None
    client_cpu_s: float | None = (
        None  # of the process that sent the requests; None in a simulation, where none did
    )
    counted: dict[str, float] = field(
        default_factory=dict
    )  # metrics that a server's own counters told, by name
    remarks: dict[str, str] = field(default_factory=dict)  # what else must be said of the run, as tags of it

    @property
    def run_start(self) -> dict[str, Any]:
        """The adapter's first record, what it said of the engine and of itself; empty without one."""
        return next((event for event in self.events if event["type"] == "run_start"), {})

    @property
    def degraded(self) -> bool:
        """Whether the engine's own choice replaced the strategy's at least once."""
        return any(e["type"] == "strategy_error" or e.get("degraded") for e in self.events)

    def save(self, folder: Path) -> None:
        """Writes requests.parquet, events.jsonl, steps.parquet and run.json into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.requests.to_parquet(folder / "requests.parquet")
        self.steps.to_parquet(folder / "steps.parquet")
        with open(folder / "events.jsonl", "w") as file:
            for event in self.events:
                file.write(json.dumps(event) + "\n")
        scalars = {
            "status": self.status,
            "environment": self.environment,
            "started_t": self.started_t,
            "finished_t": self.finished_t,
            "error": self.error,
            "request_timeout_s": self.request_timeout_s,
            "recorded": self.recorded,
            "client_cpu_s": self.client_cpu_s,
            "served_t": self.served_t,
            "counted": self.counted,
            "remarks": self.remarks,
        }
        (folder / "run.json").write_text(json.dumps(scalars, indent=2))

    @classmethod
    def load(cls, folder: Path) -> RunResult:
        """Reads what `save` wrote."""
        scalars = json.loads((folder / "run.json").read_text())
        with open(folder / "events.jsonl") as file:
            events = [json.loads(line) for line in file]
        return cls(
            requests=pd.read_parquet(folder / "requests.parquet"),
            steps=pd.read_parquet(folder / "steps.parquet"),
            events=events,
            **scalars,
        )


def token_times(request: tuple) -> np.ndarray:
    """When the output chunks of a row of `requests` arrived, in seconds of the run."""
    if request.itl_s is None or not np.ndim(request.itl_s) or pd.isna(request.first_token_t):
        return np.array([])
    return request.first_token_t + np.concatenate([[0.0], np.cumsum(np.asarray(request.itl_s, float))])
