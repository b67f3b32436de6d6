"""Scheduler work that a simulation can leave out, or do faster, without changing a decision."""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.output import CachedRequestData


class ShortcutsMixin:
    """Goes between the adapter and vLLM's scheduler.

    What a step would tell the model's workers (block tables, token ids) is not assembled: nobody reads it.
    """

    def _make_cached_request_data(self, *args: Any, **kwargs: Any) -> CachedRequestData:
        return _NO_DATA


_NO_DATA = CachedRequestData.make_empty()
