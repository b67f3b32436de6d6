"""Host memory for KV blocks: vLLM's own connector decides, the transfers are simulated.

The scheduler side of vLLM's `OffloadingConnector` runs unchanged inside the simulated scheduler: which
blocks are stored, found, loaded and evicted is its decision. This is its worker side: when a transfer ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import (
    OffloadingConnectorMetadata,
    OffloadingWorkerMetadata,
    TransferJob,
)
from vllm.v1.outputs import KVConnectorOutput

from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.config import SimConfig


class HostMemory:
    """Copies blocks at the link's bandwidth, one transfer at a time in each direction.

    As vLLM's worker does: a step's loads begin with the step, its stores with the next one; a step that
    needs the blocks of a store waits for it; what has ended when a step ends is reported with its output.
    """

    def __init__(self, seconds_per_block: float):
        self._seconds_per_block = seconds_per_block
        self._deferred: dict[int, TransferJob] = {}  # stores that begin with the next step
        # By job: its end, the request it loads for, and the seconds it takes.
        self._under_way: dict[int, tuple[float, str | None, float]] = {}
        self._load_free_t = self._store_free_t = 0.0

    @property
    def busy(self) -> bool:
        return bool(self._deferred or self._under_way)

    def next_end(self) -> float | None:
        """When the next transfer ends, or 0 if one could begin; None if there is none."""
        if self._deferred:
            return 0.0
        return min((end for end, *_ in self._under_way.values()), default=None)

    def begin_step(self, metadata: OffloadingConnectorMetadata, t: float) -> float:
        """Starts what is due at `t`; returns when the device may begin the step."""
        stores, flush = dict(metadata.store_jobs), metadata.jobs_to_flush or ()
        for job in flush:
            if job in stores:
                self._deferred[job] = stores.pop(job)
        for job, entry in self._deferred.items():
            self._store_free_t = max(t, self._store_free_t) + self._seconds(entry.src_spec)
            self._under_way[job] = (self._store_free_t, None, 0.0)
        self._deferred = stores
        start = max([t, *(self._under_way[job][0] for job in flush if job in self._under_way)])
        for job, entry in metadata.load_jobs.items():
            seconds = self._seconds(entry.dst_spec)
            self._load_free_t = max(start, self._load_free_t) + seconds
            self._under_way[job] = (self._load_free_t, entry.req_id, seconds)
        return start

    def end_step(self, t: float) -> KVConnectorOutput | None:
        """What has ended by `t` and was not reported yet."""
        ended = [job for job, (end, *_) in self._under_way.items() if end <= t]
        if not ended:
            return None
        _, requests, seconds = zip(*(self._under_way.pop(job) for job in ended), strict=True)
        return worker_report(ended, set(requests) - {None}, sum(seconds))

    def _seconds(self, device_blocks: Any) -> float:
        return len(device_blocks.block_ids) * self._seconds_per_block


def worker_report(
    ended: Iterable[int], loaded: Iterable[str], load_seconds: float = 0.0
) -> KVConnectorOutput:
    """What vLLM's worker says after a step: jobs that have ended, whose load is complete, and the time of those loads."""
    meta = OffloadingWorkerMetadata(completed_jobs=dict.fromkeys(ended, 1))
    meta.transfer_stats.load.time = load_seconds
    return KVConnectorOutput(finished_recving=set(loaded) or None, kv_connector_worker_meta=meta)


def host_memory(parts: SchedulerParts, sim: SimConfig) -> HostMemory | None:
    """None where the engine offloads nothing."""
    if parts.vllm_config.kv_transfer_config is None:
        return None
    bandwidth = sim.hardware.host_bandwidth * sim.calibration.host_efficiency
    return HostMemory(parts.block_bytes / bandwidth)
