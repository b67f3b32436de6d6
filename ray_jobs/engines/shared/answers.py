"""Prompts that go on with what the engine said, in place of the answers that the trace recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ray_jobs.workload.trace import TraceRequest


class LiveAnswers:
    """The conversations of one run as they really went.

    A turn goes on from its first parent if its recorded prompt begins with that parent's prompt: the
    parent's live prompt and its live answer then take the place of as many recorded tokens. Other
    turns (a sub-agent with a prompt of its own, a context that was summed up) stay as recorded.
    """

    def __init__(self, requests: Sequence[TraceRequest]):
        self._recorded = {request.request_id: request for request in requests}
        self._prompts: dict[str, np.ndarray] = {}
        self._answers: dict[str, list[int]] = {}

    def prompt_of(self, request: TraceRequest) -> TraceRequest:
        """The request with its live prompt, which is as long as the recorded one."""
        tokens = request.prompt_token_ids
        if request.parents:
            parent = self._recorded[request.parents[0]]
            before = np.append(self._prompts[parent.request_id], self._answers[parent.request_id])
            begins = parent.prompt_token_ids
            if len(before) <= len(tokens) and np.array_equal(tokens[: len(begins)], begins):
                request = replace(request, prompt_token_ids=np.append(before, tokens[len(before) :]))
        self._prompts[request.request_id] = request.prompt_token_ids
        self._answers[request.request_id] = []
        return request

    def said(self, request_id: str, token_ids: Sequence[int]) -> None:
        """More of an answer."""
        self._answers[request_id] += token_ids
