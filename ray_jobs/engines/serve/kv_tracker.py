"""What Ray Serve LLM's KV-aware router asks: Ray's own tracker with Dynamo's selection service in it, in this process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from ray.llm._internal.serve.routing_policies.kv_aware.constants import REQUEST_TOKEN_IDS_KWARG
from ray.llm._internal.serve.routing_policies.kv_aware.kv_token_tracker import (
    KVTokenTracker,
    set_kv_token_tracker,
)
from ray.serve._private.common import DeploymentID

from ray_jobs.engines.routers.served import SERVED
from ray_jobs.workload.trace import TraceRequest


class KvTracker:
    """Of the application `name` and its deployment of that name. To be made in an event loop, before its first request.

    In Ray Serve LLM its ingress makes it, and engines tell it of first tokens and ends; here the client does, who sees them.
    """

    def __init__(self, name: str, weight: float):
        needed = SERVED["kv-aware"]
        try:
            self.environment = {"ai_dynamo_runtime": version(needed.package)}
        except PackageNotFoundError:  # Ray's tracker would be made without it, and then answer nobody
            raise RuntimeError(
                f"{sys.executable} has no {needed.package}, which Ray Serve LLM scores with: "
                f"pip install {needed.package}=={needed.version}"
            ) from None
        os.environ["DYN_ROUTER_PREFILL_LOAD_SCALE"] = str(weight)  # Ray has no key for it
        self._tracker = KVTokenTracker(
            serve_deployment_id=DeploymentID(name=name, app_name=name), ingress_replica_rank=0
        )
        set_kv_token_tracker(self._tracker)

    async def know(self, replicas: int, timeout_s: float) -> None:
        """Waits until all have said where they publish. Raises RuntimeError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (known := self._tracker._svc.ready()["schedulable_workers"]) < replicas:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the KV-aware router heard of {known} of {replicas} replicas")
            await asyncio.sleep(0.1)

    def asked(self, request: TraceRequest) -> dict[str, list[int]]:
        """What the router is told of a request beside it."""
        return {REQUEST_TOKEN_IDS_KWARG: request.prompt_token_ids.tolist()}

    async def first_token(self, call_id: str) -> None:
        await self._tracker.on_prefill_complete(call_id)

    async def done(self, call_id: str) -> None:
        await self._tracker.on_request_completed(call_id)

    def end(self) -> None:
        set_kv_token_tracker(None)
        self._tracker._long_poll_client.stop()
        self._tracker._svc.shutdown()
