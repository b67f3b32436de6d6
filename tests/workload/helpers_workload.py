"""Small workloads that the tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray_jobs.workload.config import ArrivalConfig, DeclaredConfig, SourceConfig, WorkloadConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.length_config import LengthConfig
from ray_jobs.workload.source_config import ComponentConfig
from ray_jobs.workload.sources import has_times
from ray_jobs.workload.trace import Trace

TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
VOCAB, MODEL_LEN = 1000, 4096


def component(median: float = 100, output: float = 30, **more: Any) -> ComponentConfig:
    return ComponentConfig(
        prompt=LengthConfig(median=median, sigma=0.5, min=1, max=1000),
        output=LengthConfig(median=output, sigma=0.5, min=1, max=200),
        **more,
    )


def mixture(**more: Any) -> WorkloadConfig:
    """Two kinds of request at 4 req/s; `more` replaces any field of the workload."""
    fields: dict[str, Any] = {
        "name": "test",
        "num_requests": 60,
        "rate": 4.0,
        "source": SourceConfig(
            components={"chat": component(max_tokens=300), "qa": component(40, 8, weight=0.5)}
        ),
    }
    return WorkloadConfig(**{**fields, **more})


def from_file(kind: str, path: Path | str, **more: Any) -> WorkloadConfig:
    """A file's requests, replayed if it has times, whole unless `num_requests` says otherwise."""
    source = SourceConfig(
        kind=kind, path=str(path), **{k: more.pop(k) for k in ("pick", "tokenizer") if k in more}
    )
    timed = has_times(kind)
    fields: dict[str, Any] = {
        "name": kind,
        "num_requests": None,
        "rate": 1.0,
        "arrivals": ArrivalConfig(kind="replay" if timed else "poisson"),
        "declared": DeclaredConfig(kind="exact"),
        "source": source,
    }
    return WorkloadConfig(**{**fields, **more})


def freeze(workload: WorkloadConfig, seed: int = 0, vocab: int = VOCAB, model_len: int = MODEL_LEN) -> Trace:
    return freeze_trace(workload, seed, vocab, model_len)
