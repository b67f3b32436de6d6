"""The columns with which MLflow's table of runs opens, kept as a shared view of the experiment."""

from __future__ import annotations

import json

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tracking.store.address import VIEW

TAG = f"mlflow.sharedViewState.{VIEW}"  # what MLflow's page looks up for ?viewStateShareKey=
KIND = "mlflow.experimentKind"  # else MLflow guesses, and shows sweeps as evaluations of language models
COLUMNS = (
    "attributes.`Description`", "attributes.`Duration`", "metrics.`e2e_mean_s`", "metrics.`e2e_p99_s`",
    "metrics.`ttft_mean_s`", "metrics.`ttft_p99_s`", "metrics.`throughput_tok_s`", "metrics.`slo_attainment`",
    "metrics.`preemptions`", "metrics.`executed_tax`", "tags.`workload`", "tags.`rate`",
)  # fmt: skip


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
