"""Opens an MLflow store, or says in one line why that is not possible."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

ANSWER_TIMEOUT_S = 10.0  # MLflow itself would try for minutes
SQLITE = "sqlite:///"


def sqlite_file(uri: str) -> Path | None:
    """The file of a store in SQLite; None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def artifact_folder(uri: str) -> Path | None:
    """The folder behind a run's artifact URI if it is on this machine, else None."""
    address = urlsplit(uri)
    if address.scheme not in ("", "file") or address.netloc not in ("", "localhost"):
        return None
    folder = Path(unquote(address.path) if address.scheme else uri)
    return folder if folder.is_dir() else None


def check_store(uri: str) -> None:
    """Raises ConnectionError if no server answers at `uri`, ValueError if it is a file that cannot be written.

    Writes nothing itself.
    """
    file = sqlite_file(uri)
    if file is None:
        _knock(uri)
        return
    folder = next(parent for parent in file.absolute().parents if parent.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".bidkv-"):
            pass  # SQLite needs to make files beside its own
        if file.exists():
            with open(file, "r+b"):
                pass
    except OSError as error:
        raise ValueError(f"tracking.uri={uri!r}: cannot be written: {error.strerror or error}") from None


def open_client(uri: str) -> MlflowClient:
    """Raises ConnectionError if no server answers at `uri`, ValueError if MLflow cannot use it."""
    _knock(uri)
    try:
        return MlflowClient(uri)
    except MlflowException as error:
        raise ValueError(f"tracking.uri={uri!r}: {error.message.strip()}") from None


def _knock(uri: str) -> None:
    if not uri.startswith(("http://", "https://")):
        return
    try:
        requests.get(uri, timeout=ANSWER_TIMEOUT_S)
    except requests.RequestException as error:
        kind = type(error).__name__
        raise ConnectionError(f"tracking.uri={uri!r}: no MLflow server answers there ({kind})") from None
