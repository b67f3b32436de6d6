"""Where a vLLM server's meters write, and how they come to its `/metrics`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import Any

from bidkv.adapters.shared.meter import Meter

FOLDER_VARIABLE = "BIDKV_METRICS_FOLDER"
"""Set by the server's first process for those it starts: only the environment reaches them before they run."""
VLLM_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Set by vLLM (with several API servers) or by the user: then vLLM merges all that is in that folder by itself."""


def show_meters() -> None:
    """In the process that answers `/metrics`, before it starts an engine. Does nothing the second time."""
    if FOLDER_VARIABLE in os.environ or VLLM_VARIABLE in os.environ:
        return
    from prometheus_client import REGISTRY
    from prometheus_client.multiprocess import MultiProcessCollector

    folder = os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="bidkv-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MultiProcessCollector(REGISTRY, folder)


def make_meter(vllm_config: Any) -> Meter | None:
    """The meter of an engine, with the labels of vLLM's own metrics; None where nobody would look at it."""
    folder = os.environ.get(VLLM_VARIABLE) or os.environ.get(FOLDER_VARIABLE)
    if not folder or not os.path.isdir(folder):  # no server, or one on another machine
        return None
    labels = {
        "model_name": str(vllm_config.model_config.served_model_name),
        "engine": str(vllm_config.parallel_config.data_parallel_index),
    }
    return Meter(folder, labels)
