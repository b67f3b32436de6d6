"""Starts Ray in this process or joins a running cluster."""

from __future__ import annotations

import math
import os
import signal
import socket

import ray

from ray_jobs.config import BenchConfig, ClusterConfig

ANSWER_TIMEOUT_S = 10.0  # Ray itself would try for minutes


def connect(cluster: ClusterConfig) -> None:
    """Raises ConnectionError when `cluster.address` names a cluster that does not answer."""
    if cluster.address is None:
        ray.init(
            address="local",
            num_cpus=cluster.num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
    else:
        try:
            _knock(cluster.address)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            raise ConnectionError(f"cluster.address={cluster.address!r}: {error}") from None
    # Ray exits at once on SIGTERM, which `ray job stop` sends; as an interrupt it ends the sweep in order.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _knock(address: str) -> None:
    """Raises ConnectionError if nobody listens at `address`; "auto" is what Ray's RAY_ADDRESS says."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return  # a name that only Ray can resolve
    try:
        socket.create_connection((host, int(port)), ANSWER_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from None


def engines_that_fit(job: BenchConfig) -> int:
    """How many of the job's engines the cluster holds at once; 0 if not even one fits."""
    resources = ray.cluster_resources()
    limits = [math.inf if job.cluster.max_actors is None else job.cluster.max_actors]
    for name, each in (("GPU", job.engine.num_gpus), ("CPU", job.engine.num_cpus)):
        if each:
            limits.append(resources.get(name, 0) // each)
    fit = min(limits)
    return int(resources["CPU"]) if math.isinf(fit) else int(fit)
