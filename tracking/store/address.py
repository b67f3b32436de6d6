"""Where the pages of MLflow are, once its server runs."""

from __future__ import annotations

LOCAL_SERVER = "http://127.0.0.1:5000"  # where `mlflow ui` listens by default
VIEW = "bidkv"  # the key of the columns that `tracking.store.columns` chooses


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """The address of a run's page; of a store without a server, on the server that `mlflow ui` starts."""
    return f"{_server(uri)}/#/experiments/{experiment_id}/runs/{run_id}"


def table_of(uri: str, experiment_id: str) -> str:
    """The address of the table of all runs, with columns that say something."""
    return f"{_server(uri)}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"


def _server(uri: str) -> str:
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_SERVER
