"""One engine of a fleet that tells Ray Serve LLM's KV-aware router what its KV cache has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.serve.replica import Asked, Replica, Said
from ray_jobs.engines.shared.load import Relayed
from ray_jobs.workload.trace import TraceRequest

NOTHING = np.array([3], dtype=np.int32)  # a prompt that fills no block


class KvReplica(Replica):
    """vLLM publishes its KV events on sockets in a folder of their own: paths of sockets must be short."""

    async def start(self, variables: Mapping[str, str], devices: Sequence[str]) -> Said:
        self._sockets = TemporaryDirectory(prefix="kv")
        self._events = {
            name: f"ipc://{Path(self._sockets.name, name)}" for name in ("endpoint", "replay_endpoint")
        }
        publish = {"enable_kv_cache_events": True, "publisher": "zmq", **self._events}
        self.config = replace(self.config, extra=self.config.extra | {"kv_events_config": publish})
        return await super().start(variables, devices)

    async def begin(self, settings: Sequence[AdapterSettings]) -> Said:
        """vLLM publishes that its cache was emptied with the next step, so there is one before the run."""
        engine = self._running()
        await engine.empty_cache()
        async for _ in engine.generate(TraceRequest("between-runs", 0.0, NOTHING, 1, 1)):
            pass
        return await super().begin(settings)

    async def generate(
        self, asked: Asked, request_token_ids: Sequence[int] = ()
    ) -> AsyncIterator[int | Relayed]:
        """Of `request_token_ids` the router has made use."""
        async for said in super().generate(asked):
            yield said

    async def stop(self) -> Said:
        said = await super().stop()
        self._sockets.cleanup()
        return said

    async def record_routing_stats(self) -> dict[str, Any]:
        """Ray Serve asks now and then, and tells whoever tracks its replicas."""
        if self.engine is None:
            return {}
        config = self.engine.engine.vllm_config
        return {
            "kv_event_metadata": self._events
            | {
                "block_size": config.cache_config.block_size,
                "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
                "dp_rank": 0,
            }
        }
