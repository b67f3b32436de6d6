"""Scheduler work that a simulation can leave out or do faster without changing a decision.

Off with `engine.sim.shortcuts=false`; a test runs both ways and compares the records byte for byte.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.output import CachedRequestData
from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec
from vllm.v1.request import Request, RequestStatus


def has_shortcuts(kv_cache_config: Any) -> bool:
    """Whether there is one group, and it keeps every token of a request: of others a step may let blocks go."""
    kinds = [type(group.kv_cache_spec) for group in kv_cache_config.kv_cache_groups]
    return len(kinds) == 1 and kinds[0] in (FullAttentionSpec, MLAAttentionSpec)


class ShortcutsMixin:
    """Goes between the adapter and vLLM's scheduler; needs one full-attention KV cache group.

    - What a step tells the model's workers (block tables, token ids) is not assembled: nobody reads it.
    - A decode whose token still fits the request's last block allocates nothing, so it skips the allocator.
    - A running request whose new token neither ends it nor fills a block only appends it. Its id goes
      to `plain_outputs`; vLLM's update_from_output handles the rest.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        manager = self.kv_cache_manager
        (group,) = manager.coordinator.single_type_managers
        self.plain_outputs: list[str] = []
        self._sim_stock_allocate = manager.allocate_slots
        self._sim_no_blocks = manager.empty_kv_cache_blocks
        self._sim_cached_blocks = group.num_cached_block if manager.enable_caching else None
        manager.allocate_slots = self._sim_allocate

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        scheduled = scheduler_output.num_scheduled_tokens
        rest = self._sim_append_plain(scheduled, model_runner_output.sampled_token_ids)
        scheduler_output.num_scheduled_tokens = rest
        try:
            return super().update_from_output(scheduler_output, model_runner_output)
        finally:
            scheduler_output.num_scheduled_tokens = scheduled

    def _sim_append_plain(self, scheduled: dict[str, int], sampled: list[list[int]]) -> dict[str, int]:
        """Appends the tokens of plain decodes to their requests; the other entries of `scheduled`."""
        self.plain_outputs = plain = []
        rest: dict[str, int] = {}
        requests, block_size, longest = self.requests, self.block_size, self.max_model_len - 1
        running = RequestStatus.RUNNING
        for (request_id, count), token_ids in zip(scheduled.items(), sampled, strict=True):
            request = requests.get(request_id)
            if (
                request is not None
                and request.status is running
                and token_ids
                and not getattr(request, "num_stale_output_tokens", 0)  # 0.26 has none
            ):
                outputs, tokens = request._output_token_ids, request._all_token_ids
                length = len(tokens)
                if (
                    outputs
                    and len(outputs) + 1 < request.max_tokens
                    and length < longest
                    and (length + 1) % block_size
                    and length % block_size
                ):
                    outputs.append(token_ids[0])
                    tokens.append(token_ids[0])
                    request.num_in_flight_tokens -= count
                    if request.num_output_placeholders:
                        request.num_output_placeholders -= 1
                    plain.append(request_id)
                    continue
            rest[request_id] = count
        return rest

    def _sim_allocate(self, request: Request, num_new_tokens: int, *args: Any, **kwargs: Any) -> Any:
        if num_new_tokens == 1 and request.status is RequestStatus.RUNNING:
            computed = request.num_computed_tokens
            if computed % self.block_size:
                full = (computed + 1) // self.block_size
                cached = self._sim_cached_blocks
                if cached is None or cached.get(request.request_id, 0) >= full:
                    return self._sim_no_blocks
        return self._sim_stock_allocate(request, num_new_tokens, *args, **kwargs)

    def _make_cached_request_data(self, *args: Any, **kwargs: Any) -> CachedRequestData:
        return _NO_DATA


_NO_DATA = CachedRequestData.make_empty()
