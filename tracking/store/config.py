"""Configuration of the MLflow store: `tracking`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracking.errors import require
from tracking.secrets import check_address

STORE = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://|https?://|databricks")


@dataclass
class TrackingConfig:
    """The MLflow store, and where results wait until they are in it."""

    uri: str = "sqlite:///outputs/mlflow.db"
    artifact_root: str | None = "outputs/mlartifacts"  # null leaves it to the server
    experiment: str = "bidkv"
    resume: bool = True  # an interrupted sweep goes on: its finished runs are not run again
    spool: str = "outputs/spool"  # every result is kept in this folder until the store has it
    patience_s: float = 120.0  # how long the end of a sweep waits for a store that does not answer

    def __post_init__(self) -> None:
        for key in ("uri", "experiment", "spool"):
            require(bool(getattr(self, key).strip()), f"tracking.{key}", getattr(self, key), "not empty")
        require(
            not self.uri.startswith("sqlite:") or self.uri.startswith("sqlite:///"),
            "tracking.uri", self.uri, "sqlite:///FILE, with a fourth slash for a path from the root",
        )  # fmt: skip
        require(
            STORE.match(self.uri) is not None, "tracking.uri", self.uri,
            "sqlite:///FILE, http://HOST:5000 of an MLflow server, or another database's address; MLflow's folders of files "
            "(mlruns) take no more runs",
        )  # fmt: skip
        require(self.patience_s >= 0, "tracking.patience_s", self.patience_s, ">= 0")
        check_address("tracking.uri", self.uri)
        check_address("tracking.artifact_root", self.artifact_root or "")
