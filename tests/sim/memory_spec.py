"""A worker for vLLM's `OffloadingConnector` that copies KV blocks where there is no GPU.

vLLM's own refuses to start on a CPU. All the rest is vLLM's: its connector, its scheduler side and its manager.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.spec import CPUOffloadingSpec

LOOKS = 2  # a transfer counts as ended when it is asked for so many times: a step does not see its own transfers end


class MemorySpec(CPUOffloadingSpec):
    def get_worker(self, kv_caches: Any) -> OffloadingWorker:
        assert self.blocks_per_chunk == 1
        return MemoryWorker(kv_caches, self.num_chunks)


class MemoryWorker(OffloadingWorker):
    def __init__(self, kv_caches: Any, chunks: int):
        self._device = [entry.tensor for entry in kv_caches.tensors]
        self._host = [torch.zeros((chunks, *tensor.shape[1:]), dtype=tensor.dtype) for tensor in self._device]
        self._looks: dict[int, int] = {}

    def submit_store(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, self._device, src_spec, self._host, dst_spec)

    def submit_load(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, self._host, src_spec, self._device, dst_spec)

    def _copy(self, job_id: int, source: Any, src_spec: Any, target: Any, dst_spec: Any) -> bool:
        for ours, theirs in zip(source, target, strict=True):
            theirs[torch.as_tensor(dst_spec.block_ids)] = ours[torch.as_tensor(src_spec.block_ids)]
        self._looks[job_id] = 0
        return True

    def get_finished(self) -> list[TransferResult]:
        self._looks = {job: looks + 1 for job, looks in self._looks.items()}
        ended = [job for job, looks in self._looks.items() if looks >= LOOKS]
        for job in ended:
            del self._looks[job]
        return [TransferResult(job, True) for job in ended]

    def wait(self, job_ids: set[int]) -> None:
        """All is copied when it is submitted."""
