"""What a KV connector holds elsewhere, such as vLLM's own in host memory (`kv_offloading_size`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.vllm.memory.copies import host_copies, only_forwards
from bidkv.request import PoolState


class HostMemory:
    """What a connector loads and holds for requests, as accounts and policies are told.

    Wraps the two calls by which vLLM's scheduler asks the connector what it has, and says that it takes it.
    Only of vLLM's `OffloadingConnector` is known what it holds and how long its loads take.
    """

    WEIGHT = 0.1  # of the latest load in `pool.load_s_per_token`

    def __init__(self, connector: Any, account: Callable[[Any], RequestAccount], block_size: int):
        self._account, self._block_size = account, block_size
        self._own = getattr(connector, "connector_scheduler", None)
        self.copies, self.forwards = host_copies(connector), only_forwards(connector)
        self.keep_beginnings = False  # whether a use on the device counts as one of the copies, too
        self._ask, self._take = connector.get_num_new_matched_tokens, connector.update_state_after_alloc
        self._asked: dict[str, int] = {}
        self._told: dict[str, int] = {}  # tokens from the beginning, here and there
        self._later: dict[str, bool] = {}  # whether what it was told of is loaded while it waits
        self._loading: dict[str, int] = {}  # tokens by request
        self.unknown: set[str] = set()  # of whom the connector could not tell yet what it has
        connector.get_num_new_matched_tokens = self._asks
        connector.update_state_after_alloc = self._takes

    def held(self, request_id: str) -> int | None:
        """Tokens from a request's beginning that are in host memory; None if the connector does not tell."""
        known = getattr(self._own, "_req_status", {}).get(request_id)
        if known is None:
            return None if self._own is None else 0
        manager, context = self._own.manager, known.req_context
        keys = known.group_states[0].offload_keys
        hits = takewhile(lambda key: manager.lookup(key, context).name == "HIT", keys)
        return sum(1 for _ in hits) * self._block_size

    def told(self, request_id: str) -> int:
        """Tokens from the beginning of one that waits, on the device and elsewhere, when vLLM asked last; 0: not yet."""
        return self._told.get(request_id, 0)

    def ended(self, result: Any, pool: PoolState) -> None:
        """Learns from a step's output what the loads that ended with it took."""
        report = result.kv_connector_output
        tokens = sum(self._loading.pop(name, 0) for name in getattr(report, "finished_recving", None) or ())
        stats = getattr(getattr(report, "kv_connector_worker_meta", None), "transfer_stats", None)
        if tokens and stats is not None and stats.load.time:
            price = stats.load.time / tokens
            known = price if pool.load_s_per_token is None else pool.load_s_per_token
            pool.load_s_per_token = known + self.WEIGHT * (price - known)

    def left(self, request_id: str) -> None:
        """A request ended."""
        self.unknown.discard(request_id)
        for known in (self._asked, self._told, self._later, self._loading):
            known.pop(request_id, None)

    def _asks(self, request: Any, num_computed_tokens: int) -> Any:
        answer = tokens, later = self._ask(request, num_computed_tokens)
        self._asked[request.request_id] = num_computed_tokens
        self._told[request.request_id] = num_computed_tokens + (tokens or 0)
        self._later[request.request_id] = bool(later)
        (self.unknown.add if tokens is None else self.unknown.discard)(request.request_id)
        return answer

    def _takes(self, request: Any, blocks: Any, num_external_tokens: int) -> Any:
        on_device = self._asked.pop(request.request_id, None)
        self._told.pop(request.request_id, None)
        if num_external_tokens:
            self._account(request).restored_from = on_device
            if self.keep_beginnings and self.copies is not None and on_device:
                self.copies.used(request.request_id, on_device)
            if self._later.pop(request.request_id, False):  # else the step itself loads
                self._loading[request.request_id] = num_external_tokens
        return self._take(request, blocks, num_external_tokens)
