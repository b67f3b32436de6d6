"""What a KV connector moves in a step, for its record."""

from __future__ import annotations

from typing import Any

from bidkv.adapters.vllm.records.accounting import client_id


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
