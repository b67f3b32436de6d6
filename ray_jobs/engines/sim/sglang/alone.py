"""SGLang's scheduler alone in this process: no tokenizer process, no sockets, no model that is worth its name."""

from __future__ import annotations

from typing import Any

from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.scheduler_components.ipc_channels import SchedulerIpcChannels
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import PortArgs, ServerArgs

ON_CPU = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "load_format": "dummy",
    "dtype": "float32",
    "mem_fraction_static": 0.9,  # only an upper bound: max_total_tokens says what there is
}
"""Arguments of SGLang's for a model that never runs."""


class SchedulerAlone(Scheduler):
    """Whoever has it gives it requests in `ingest_requests` and makes its tokens up in `_forward`."""

    def __init__(self, server: ServerArgs):
        publish(server, role="scheduler", ranks=SpawnRanks(world_rank=0, dp_rank=None, gpu_id=0))
        super().__init__(server, PortArgs.init_new(server))
        self.model_worker.forward_batch_generation = self._forward

    def init_ipc_channels(self, port_args: Any) -> None:
        self.ipc_channels = SchedulerIpcChannels.create(
            port_args=port_args,
            is_rank_zero=False,  # it has no sockets then
            skip_tokenizer_init=True,
            metrics_enabled=False,
            enable_scripted_runtime=False,
        )
        self.load_snapshot_writer = self.recv_from_tokenizer = None

    def _forward(self, batch: Any, **_: Any) -> GenerationBatchResult:
        """Stands for the model: a token for each request of the batch."""
        raise NotImplementedError
