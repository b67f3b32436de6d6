"""Brings spooled records into the store, as far as the store lets it."""

from __future__ import annotations

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from tracking.store.config import TrackingConfig
from tracking.store.spool import STORE_FILE, Spool
from tracking.store.writer import SweepStore

STORE_ERRORS = (MlflowException, RequestException, SQLAlchemyError, OSError, ValueError)


def bring(spool: Spool) -> str | None:
    """Uploads what a sweep left behind into the store that it was for, as `upload_waiting`, and tidies up."""
    try:
        config = spool.store()
    except (OSError, ValueError) as error:
        return f"{spool.folder / STORE_FILE}: {error}"
    error = upload_waiting(spool, config)
    spool.close()
    return error


def upload_waiting(spool: Spool, config: TrackingConfig) -> str | None:
    """Uploads what waits in `spool`, oldest first; the reason in one line if it had to stop before the end."""
    if not spool.pending():
        return None
    with spool.uploading() as mine:
        if not mine:
            return "another process uploads them"
        try:
            store = SweepStore(config)
            for folder in spool.pending():
                store.upload(folder)
                spool.remove(folder)
        except STORE_ERRORS as error:
            return " ".join(str(error).split())[:300]
    return None
