"""The two kinds of engine of a disaggregated fleet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.replica import Replica

HandOver = Callable[[RequestLog, dict[str, Any], float], None]
"""What a prefill engine calls with a request, where its KV is, as vLLM tells a proxy, and when."""


class OneSide(Replica):
    """What both kinds have in common: transfers that other engines may begin while a step runs."""

    def _finish(self) -> bool:
        _, sampled, end = self._batches[-1]
        sampled.kv_connector_output = self._host.ended(max(end, self.clock.now))
        return super()._finish()


class Prefill(OneSide):
    """Computes prompts and hands them over with their first token, which the decode engine samples again."""

    hand_over: HandOver

    def _request(self, log: RequestLog) -> Any:
        # As vLLM's proxy asks: one token, whatever the client wants.
        asked = replace(log.request, output_tokens=1, max_tokens=1)
        request = super()._request(replace(log, request=asked))
        request.kv_transfer_params = {"do_remote_decode": True, "do_remote_prefill": False}
        return request

    def _deliver(self, item: Any) -> None:
        self._sampler.remove(item.request_id)
        self.hand_over(self.clients.let_go(item.request_id), item.kv_transfer_params, self.clock.now)


class Decode(OneSide):
    """Goes on from prompts whose KV it pulls."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._handed_over: dict[str, tuple[dict[str, Any], float]] = {}  # where its KV is, and since when

    def take(self, log: RequestLog, where: dict[str, Any], now: float) -> None:
        """A request that was prefilled; `where` its KV is."""
        self._handed_over[log.request.request_id] = where, now
        self.clients.put(log, now)

    def _request(self, log: RequestLog) -> Any:
        request = super()._request(log)
        request.kv_transfer_params, request.arrival_time = self._handed_over.pop(request.request_id)
        return request


def with_connector(parts: SchedulerParts, role: str, engine_id: str) -> SchedulerParts:
    """The same engine with vLLM's NIXL connector; `role` is vLLM's `kv_producer` or `kv_consumer`."""
    from vllm.config import KVTransferConfig

    config = copy.copy(parts.vllm_config)
    config.kv_transfer_config = KVTransferConfig(
        kv_connector="NixlConnector", kv_role=role, engine_id=engine_id
    )
    return replace(parts, vllm_config=config)
