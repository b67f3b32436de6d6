"""What runs are called, and where MLflow's pages of them are once its server runs."""

from __future__ import annotations

import re

LOCAL_SERVER = "http://127.0.0.1:5000"  # where `mlflow ui` listens by default
VIEW = "bidkv"  # the key of the columns that `tracking.store.columns` chooses


def short(run_id: str) -> str:
    """The beginning of a run's id, eight characters; longer where a command line would read them as a number."""
    number = re.match(r"\d+(e\d*)?", run_id)
    return run_id[: max(8, number.end() + 1 if number else 0)]


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """The address of a run's page; of a store without a server, on the server that `mlflow ui` starts."""
    return f"{_server(uri)}/#/experiments/{experiment_id}/runs/{run_id}"


def table_of(uri: str, experiment_id: str) -> str:
    """The address of the table of all runs, with columns that say something."""
    return f"{_server(uri)}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"


def _server(uri: str) -> str:
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_SERVER
