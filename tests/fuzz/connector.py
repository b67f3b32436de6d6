"""A KV connector that vLLM's own factory loads: it has part of many prompts, answers late, and fails at times."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorBase_V1, SupportsHMA
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata
from vllm.v1.outputs import KVConnectorOutput


class FuzzConnector(KVConnectorBase_V1, SupportsHMA):
    """Everything it says of a request follows from the request's id, so that it does not depend on the schedule.

    `kind` (async or sync), `fails` and `block` come through `kv_connector_extra_config`.
    """

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None):
        super().__init__(vllm_config, role, kv_cache_config)
        extra = self._kv_transfer_config.kv_connector_extra_config
        self._async, self._fails, self._block = extra["kind"] == "async", extra["fails"], extra["block"]
        # Block ids mean nothing where there are several pools: vLLM is then told of requests, from 0.32 on.
        self._by_block = len(kv_cache_config.kv_cache_groups) == 1
        self._by_name = not self._by_block and "failed_recving" in KVConnectorOutput.__dataclass_fields__
        self._asked: dict[str, int] = {}  # times it did not know yet
        self._loading: dict[str, int] = {}  # step at which a load is complete
        self._blocks: dict[str, list[int]] = {}  # that loads write
        self._local: dict[str, int] = {}  # tokens that the prefix cache had when it was asked
        self._sending: dict[str, int] = {}
        self._broken: set[int] = set()  # blocks of synchronous loads that failed, not reported yet
        self._step = 0
        self.unknown: set[str] = set()  # for whom the last step was told: do not know yet
        self.failed: set[str] = set()  # whose load failed: it is not tried again

    # -- what the scheduler asks ---------------------------------------------------------------

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        luck = crc32(request.request_id.encode())
        self._local[request.request_id] = num_computed_tokens
        if luck % 3 == 0 and self._asked.get(request.request_id, 0) < luck // 3 % 4:
            self._asked[request.request_id] = self._asked.get(request.request_id, 0) + 1
            self.unknown.add(request.request_id)
            return None, False
        if luck % 5 == 0 or request.num_preemptions or request.request_id in self.failed:
            return 0, False
        held = (request.num_prompt_tokens - 1) * (luck // 7 % 4 + 1) // 4 // self._block * self._block
        tokens = max(0, held - num_computed_tokens)
        return tokens, self._async and tokens > 0

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        if not num_external_tokens:
            return
        luck = crc32(request.request_id.encode())
        place = self._local[request.request_id] // self._block
        ids = blocks.get_block_ids()[0][place:]
        if self._async:
            self._loading[request.request_id] = self._step + luck // 11 % 5 + 1
            self._blocks[request.request_id] = ids
        elif self._fails and self._by_block and luck % 4 == 0:
            self._broken.update(ids[:1])
            self.failed.add(request.request_id)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        self._step += 1
        return KVConnectorMetadata()

    def request_finished_all_groups(self, request: Any, block_ids: Any) -> tuple[bool, None]:
        self._asked.pop(request.request_id, None)
        self._local.pop(request.request_id, None)
        luck = crc32(request.request_id.encode())
        loading = request.request_id in self._loading
        if luck % 6 == 0 and request.num_computed_tokens and not loading:  # its KV is sent elsewhere first
            self._sending[request.request_id] = self._step + luck // 13 % 6
            return True, None
        return False, None

    # -- what the worker reports ---------------------------------------------------------------

    def output(self) -> KVConnectorOutput | None:
        """What ended by now."""
        received = {name for name, at in self._loading.items() if at <= self._step}
        sent = {name for name, at in self._sending.items() if at <= self._step}
        broken, self._broken = self._broken, set()
        failed: set[str] = set()
        for name in received:
            del self._loading[name]
            ids = self._blocks.pop(name)
            if self._fails and crc32(name.encode()) % 4 == 0 and (self._by_block or self._by_name):
                self.failed.add(name)
                if self._by_block:
                    broken.update(ids[:1])
                else:
                    failed.add(name)
        for name in sent:
            del self._sending[name]
        if not (received or sent or broken):
            return None
        by_name = {"failed_recving": failed} if failed else {}
        return KVConnectorOutput(
            finished_recving=received or None,
            finished_sending=sent or None,
            invalid_block_ids=broken,
            **by_name,
        )

    @property
    def busy(self) -> bool:
        return bool(self._loading or self._sending)

    # -- a worker's side, which nothing here runs ----------------------------------------------

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None: ...
    def wait_for_layer_load(self, layer_name: str) -> None: ...
    def save_kv_layer(self, *args: Any, **kwargs: Any) -> None: ...
    def wait_for_save(self) -> None: ...
