"""Opens an MLflow store, or says in one line why that is not possible."""

from __future__ import annotations

from pathlib import Path

import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

ANSWER_TIMEOUT_S = 10.0  # MLflow itself would try for minutes
SQLITE = "sqlite:///"


def sqlite_file(uri: str) -> Path | None:
    """The file of a store in SQLite; None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def open_client(uri: str) -> MlflowClient:
    """Raises ConnectionError if no server answers at `uri`, ValueError if MLflow cannot use it."""
    if uri.startswith(("http://", "https://")):
        try:
            requests.get(uri, timeout=ANSWER_TIMEOUT_S)
        except requests.RequestException as error:
            kind = type(error).__name__
            raise ConnectionError(f"tracking.uri={uri!r}: no MLflow server answers there ({kind})") from None
    try:
        return MlflowClient(uri)
    except MlflowException as error:
        raise ValueError(f"tracking.uri={uri!r}: {error.message.strip()}") from None
