"""Notes in the accounts what a KV connector loads, such as vLLM's own from host memory (`kv_offloading_size`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount


def watch_loads(connector: Any, account: Callable[[Any], RequestAccount]) -> None:
    """Wraps the two calls by which vLLM's scheduler asks a connector what it has, and says that it takes it."""
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
