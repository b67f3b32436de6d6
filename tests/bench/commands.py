"""Runs the benchmark's command as a user would, with all it writes in one folder."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tracking.store.client import open_client

ROOT = Path(__file__).parents[2]


def bench_command(folder: Path, *overrides: str, new_store: bool = False) -> list[str]:
    """The command; without `new_store` its store has its tables already, which take MLflow most of a second."""
    store = folder / "mlflow.db"
    if not new_store and not store.exists():
        shutil.copy(empty_store(), store)
    outputs = [
        f"tracking.uri={store_uri(folder)}",
        f"tracking.artifact_root={folder}/artifacts",
        f"tracking.spool={folder}/spool",
        f"figures={folder}/figures",
        f"hydra.sweep.dir={folder}/hydra",
        f"hydra.run.dir={folder}/hydra",
    ]
    return [sys.executable, "-m", "ray_jobs.run", *outputs, *overrides]


@cache
def empty_store() -> Path:
    """A store with nothing in it: making its tables takes longer than many a test."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    atexit.register(shutil.rmtree, folder)
    open_client(store_uri(folder))
    return folder / "mlflow.db"


def bench(
    folder: Path, *overrides: str, timeout: float = 600, new_store: bool = False
) -> subprocess.CompletedProcess[str]:
    command = bench_command(folder, *overrides, new_store=new_store)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def bench_started(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """The same, still running, in the background."""
    command = in_background(bench_command(folder, *overrides))
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def in_background(command: list[str]) -> list[str]:
    """The command as a script starts it in the background: SIGINT is ignored."""
    return ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]


def store_uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def stored(folder: Path, kind: str, uri: str | None = None) -> list[Run]:
    """The "sweep" or "run" entries of the folder's store, or of that at `uri`, oldest first."""
    client = MlflowClient(uri or store_uri(folder))
    experiment = client.get_experiment_by_name("bidkv")
    return client.search_runs(
        [experiment.experiment_id], f"tags.`bidkv.kind` = '{kind}'", order_by=["attributes.start_time ASC"]
    )
