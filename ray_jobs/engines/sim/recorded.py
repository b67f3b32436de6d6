"""Finds step logs: files, folders of saved runs, MLflow runs."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bidkv.adapters.shared.events import read_events

RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class RecordedSteps:
    """The steps of one run, and what is known of the engine that made them."""

    name: str
    steps: pd.DataFrame
    environment: dict[str, Any] = field(default_factory=dict)


def read_recorded_steps(source: str, tracking_uri: str) -> RecordedSteps:
    """`source` is a .jsonl or .parquet file, a folder with steps.parquet (and run.json), or an MLflow run id.

    Raises FileNotFoundError or ValueError, naming the source.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, source)
    if path.is_file():
        return RecordedSteps(source, _read_file(path), _environment(path.parent))
    if RUN_ID.fullmatch(source):
        return _read_mlflow(source, tracking_uri)
    raise FileNotFoundError(f"steps={source!r}: must be a steps file, a run's folder or an MLflow run id")


def digest(logs: list[RecordedSteps]) -> str:
    """SHA-256 over all step records, in hex."""
    total = hashlib.sha256()
    for log in logs:
        columns = sorted(c for c in log.steps if pd.api.types.is_numeric_dtype(log.steps[c]))
        total.update(json.dumps(columns).encode())
        total.update(log.steps[columns].to_numpy(float).tobytes())
    return total.hexdigest()


def _read_folder(folder: Path, source: str) -> RecordedSteps:
    for name in ("steps.parquet", "steps.jsonl"):
        if (folder / name).is_file():
            return RecordedSteps(source, _read_file(folder / name), _environment(folder))
    raise FileNotFoundError(f"steps={source!r}: the folder has no steps.parquet or steps.jsonl")


def _read_file(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.DataFrame(read_events(path))
    raise ValueError(f"steps={str(path)!r}: must end in .parquet or .jsonl")


def _environment(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return json.loads(path.read_text()).get("environment", {}) if path.is_file() else {}


def _read_mlflow(run_id: str, tracking_uri: str) -> RecordedSteps:
    from mlflow.exceptions import MlflowException

    from tracking.store.client import open_client

    client = open_client(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("steps.parquet", "run.json"):
                client.download_artifacts(run_id, name, folder)
        except (MlflowException, OSError) as error:
            raise ValueError(
                f"steps={run_id!r}: no such run with steps in {tracking_uri} ({error})"
            ) from error
        log = _read_folder(Path(folder), run_id)
    log.name = f"mlflow run {run_id}"
    return log
