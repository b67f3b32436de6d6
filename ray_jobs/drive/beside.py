"""Actors beside the driver, for what would keep it from its engines."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

TRIES = 2  # of a call whose actor died; what it does twice has the effect of once


def start_here(cls: type, *arguments: Any) -> Any:
    """An actor of `cls` on the driver's own node, where the spool is. If it dies, another one does its work again."""
    node = ray.get_runtime_context().get_node_id()
    # MLflow would try a server that is away for minutes before it says so.
    environment = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    options = {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": TRIES,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        "runtime_env": {"env_vars": environment},
    }
    return ray.remote(cls).options(**options).remote(*arguments)
