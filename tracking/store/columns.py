"""The columns with which MLflow's table of runs opens, kept as a shared view of the experiment."""

from __future__ import annotations

import json

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tracking.store.address import VIEW

TAG = f"mlflow.sharedViewState.{VIEW}"  # what MLflow's page looks up for ?viewStateShareKey=
KIND = "mlflow.experimentKind"  # else MLflow guesses, and shows sweeps as evaluations of language models
ANSWER = "answer"  # the tag of a sweep that says in short what came out
COLUMNS = ("attributes.`Description`", "metrics.`e2e_mean_s`", "metrics.`preemptions`", f"tags.`{ANSWER}`")
"""Few, since MLflow puts tags behind all metrics, and a page 1,440 px wide has room for so many."""


def choose_columns(client: MlflowClient, experiment_id: str) -> None:
    """Says which columns the table shows at `tracking.store.address.table_of`; writes only what changed."""
    state = json.dumps(
        {"selectedColumns": list(COLUMNS), "orderByKey": "attributes.start_time", "orderByAsc": False}
    )
    tags = client.get_experiment(experiment_id).tags
    for key, value in ((TAG, state), (KIND, "custom_model_development")):
        if tags.get(key) == value:
            continue
        try:
            client.set_experiment_tag(experiment_id, key, value)
        except MlflowException:  # another command may have written it meanwhile
            if client.get_experiment(experiment_id).tags.get(key) != value:
                raise
