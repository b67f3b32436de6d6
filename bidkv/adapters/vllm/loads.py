"""What a KV connector moves, such as vLLM's own to and from host memory (`kv_offloading_size`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.vllm.accounting import client_id


def watch_loads(connector: Any, account: Callable[[Any], RequestAccount]) -> None:
    """Notes in the accounts from which token on a request is loaded by a connector.

    Wraps the two calls by which vLLM's scheduler asks the connector what it has, and says that it takes it.
    """
    ask, take = connector.get_num_new_matched_tokens, connector.update_state_after_alloc
    asked: dict[str, int] = {}

    def get_num_new_matched_tokens(request: Any, num_computed_tokens: int) -> Any:
        asked[request.request_id] = num_computed_tokens
        return ask(request, num_computed_tokens)

    def update_state_after_alloc(request: Any, blocks: Any, num_external_tokens: int) -> Any:
        on_device = asked.pop(request.request_id, None)
        if num_external_tokens:
            account(request).restored_from = on_device
        return take(request, blocks, num_external_tokens)

    connector.get_num_new_matched_tokens = get_num_new_matched_tokens
    connector.update_state_after_alloc = update_state_after_alloc


def started_transfers(output: Any, randomized_ids: bool = False) -> list[dict[str, Any]]:
    """The transfers a step starts: the connector's job number, its direction, for whom, and how many blocks.

    To be asked before the step runs: vLLM's worker takes entries out. Empty for connectors other than its
    `OffloadingConnector`.
    """
    metadata = output.kv_connector_metadata
    return [
        {
            "job": job,
            "load": load,
            "request": client_id(entry.req_id, randomized_ids),
            "blocks": len((entry.dst_spec if load else entry.src_spec).block_ids),
        }
        for load, kind in ((False, "store_jobs"), (True, "load_jobs"))
        for job, entry in getattr(metadata, kind, {}).items()
    ]


def ended_transfers(result: Any, randomized_ids: bool) -> dict[str, list[Any]]:
    """For a step's record: job numbers that had ended with it (`kv_ended`), and whose load was complete (`kv_loaded`)."""
    report = result.kv_connector_output
    ended = getattr(getattr(report, "kv_connector_worker_meta", None), "completed_jobs", {})
    loaded = getattr(report, "finished_recving", None) or ()
    return {
        "kv_ended": sorted(ended),
        "kv_loaded": sorted(client_id(name, randomized_ids) for name in loaded),
    }
