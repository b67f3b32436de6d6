"""Opens an MLflow store, or says in one line why that is not possible."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from mlflow.exceptions import MlflowException
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from tracking.store.config import TrackingConfig

ANSWER_TIMEOUT_S = 10.0  # MLflow itself would try for minutes
SQLITE = "sqlite:///"
HALF_MADE = "already exists"  # SQLite's word where MLflow goes on making tables of which some are there


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


def check_store(tracking: TrackingConfig) -> None:
    """Raises ConnectionError if no server answers, ValueError if a folder of `tracking` cannot be written.

    Writes nothing itself.
    """
    file = sqlite_file(tracking.uri)
    if file is None:
        _knock(tracking.uri)
    else:
        _check_writable(
            "tracking.uri", tracking.uri, file.absolute().parent
        )  # SQLite makes files beside its own
        if file.is_dir():
            raise ValueError(f"tracking.uri={tracking.uri!r}: is a folder, not a file")
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            raise ValueError(f"tracking.uri={tracking.uri!r}: cannot be written: Permission denied")
    _check_writable("tracking.spool", tracking.spool, Path(tracking.spool))
    root = tracking.artifact_root
    if root is not None and "://" not in root:
        _check_writable("tracking.artifact_root", root, Path(root))


def _check_writable(key: str, value: str, folder: Path) -> None:
    """Raises ValueError unless files can be made in the folder, or it in the nearest one that there is."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".bidkv-"):
            pass
    except OSError as error:
        raise ValueError(f"{key}={value!r}: cannot be written: {error.strerror or error}") from None


def open_client(uri: str) -> MlflowClient:
    """Raises ConnectionError if no server answers at `uri` or somebody else holds the database, ValueError if
    MLflow cannot use it."""
    _knock(uri)
    file = sqlite_file(uri)
    try:
        with _alone(file):
            if file is not None and not file.exists():
                _make_tables(file)
            return MlflowClient(uri)
    except MlflowException as error:
        raise refused(uri, error) from None
    except OperationalError as error:
        if file is not None and HALF_MADE in str(error.orig):
            raise ValueError(
                f"tracking.uri={uri!r}: MLflow was killed while it made the tables of this store, which holds nothing "
                f"yet: delete {file} and run again"
            ) from None
        raise ConnectionError(f"tracking.uri={uri!r}: {error.orig}") from None


def _make_tables(file: Path) -> None:
    """Makes a new SQLite store beside its place, and puts it there when all tables are made: MLflow takes
    seconds for them, and what is killed in between could never be opened again. Only inside `_alone`."""
    draft = file.with_name(f".{file.name}.new")
    for left in (draft, draft.with_name(f"{draft.name}-journal")):  # of one that was killed
        left.unlink(missing_ok=True)
    SqlAlchemyStore(f"{SQLITE}{draft}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
    os.replace(draft, file)


@contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    """One process at a time makes the tables of a new SQLite store: two at once break each other's."""
    if file is None or not file.absolute().parent.is_dir():
        yield
        return
    folder = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def refused(uri: str, error: MlflowException) -> ValueError:
    """What MLflow says of the store, in one line."""
    return ValueError(f"tracking.uri={uri!r}: {' '.join(error.message.split())[:300]}")


def _knock(uri: str) -> None:
    if not uri.startswith(("http://", "https://")):
        return
    try:
        answer = requests.get(uri, timeout=ANSWER_TIMEOUT_S)
    except requests.RequestException as error:
        kind = type(error).__name__
        raise ConnectionError(f"tracking.uri={uri!r}: no MLflow server answers there ({kind})") from None
    if answer.status_code == HTTPStatus.FORBIDDEN and "host header" in answer.text.lower():
        name = urlsplit(uri).netloc.rpartition("@")[2]
        raise ConnectionError(
            f"tracking.uri={uri!r}: its MLflow server does not know this name of its own; start it with "
            f"`mlflow server --allowed-hosts {name}` and what else it is called"
        )
