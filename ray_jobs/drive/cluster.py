"""Starts Ray in this process or joins a running cluster."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import ray
from ray._private import parameter, ray_constants
from ray._raylet import GcsClient

from ray_jobs.drive.config import BenchConfig, ClusterConfig
from ray_jobs.drive.place import check_fits, cluster_text, suitable_nodes
from ray_jobs.engines.config import EngineConfig
from tracking.cli import interrupt_on_sigterm

LOCAL = {
    "worker_niceness": 0,  # what is measured does not stand behind what else runs
    "prestart_worker_first_driver": False,  # each of our actors has an environment, hence a process, of its own
}
ANSWER_TIMEOUT_S = 10.0  # Ray itself would try for minutes


def connect(cluster: ClusterConfig) -> None:
    """Raises ConnectionError when `cluster.address` names a cluster that does not answer."""
    if cluster.address is None:
        ray_constants.ENABLE_RAY_CLUSTER = False  # nobody joins: all of Ray listens on 127.0.0.1, as on macOS
        with _without_monitors():
            ray.init(
                address="local",
                num_cpus=cluster.num_cpus,
                include_dashboard=False,
                _system_config=LOCAL,
                log_to_driver=False,
                logging_level="error",
            )
    else:
        try:
            _knock(cluster.address)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        except (
            ConnectionError,
            RuntimeError,
            ValueError,
        ) as error:  # Ray's, each for another lack of a token
            raise ConnectionError(f"cluster.address={cluster.address!r}: {error}{_token_hint()}") from None
    interrupt_on_sigterm()  # Ray exits at once on it, and `ray job stop` sends it


@contextmanager
def _without_monitors() -> Iterator[None]:
    """A Ray that starts here has no autoscaler and does not follow its logs: two processes less, a second or two.

    `ray start` has options for both, `ray.init` has none.
    """
    made = parameter.RayParams
    parameter.RayParams = partial(made, no_monitor=True, include_log_monitor=False)
    try:
        yield
    finally:
        parameter.RayParams = made


def _token_hint() -> str:
    """What Ray does not say: a cluster that wants a token does not answer a client without one."""
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return "; is the token in ~/.ray/auth_token (or RAY_AUTH_TOKEN) the cluster's?"
    return "; if the cluster has a token, set RAY_AUTH_MODE=token and have the token in ~/.ray/auth_token"


def _knock(address: str) -> None:
    """Raises ConnectionError if nobody listens at `address`, or who does wants a token or is not Ray.

    "auto" is what Ray's RAY_ADDRESS says. Ray itself would ask a cluster that refuses it for twenty seconds.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return  # a name that only Ray can resolve
    try:
        socket.create_connection((host, int(port)), ANSWER_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from None
    if address.startswith("ray://"):
        return
    try:
        GcsClient(address=address)
    except ray.exceptions.AuthenticationError:
        raise ConnectionError(f"the Ray cluster at {address} refuses a client without its token") from None
    except ray.exceptions.RpcError as error:
        raise ConnectionError(f"what listens at {address} does not answer as Ray does: {error}") from None


def engines_that_fit(jobs: Sequence[BenchConfig]) -> int:
    """How many engines of the jobs, whichever they are, the cluster holds at once.

    Raises ValueError if no node can hold one of them.
    """
    fit = math.inf
    for engine in _distinct(job.engine_used for job in jobs):
        places = sum(suitable_nodes(engine).values())
        check_fits(engine, places, cluster_text())
        alone = engine.kind == "endpoint"  # two loads at once on one server would be measured as one
        fit = min(fit, 1 if alone else places)
    limit = jobs[0].cluster.max_actors
    return int(fit if limit is None else min(fit, limit))


def _distinct(engines: Iterable[EngineConfig]) -> list[EngineConfig]:
    found: list[EngineConfig] = []
    for engine in engines:
        if engine not in found:
            found.append(engine)
    return found
