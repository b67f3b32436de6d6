"""Stands for the model: makes up the tokens that it would have sampled."""

from __future__ import annotations

from typing import Any

from vllm.v1.outputs import ModelRunnerOutput

from ray_jobs.engines.sim.build import SchedulerParts

FIRST_TOKEN_ID = 3


class Sampler:
    """Every live request repeats one token id of its own, so that no two share generated blocks by chance."""

    def __init__(self, scheduler: Any, parts: SchedulerParts):
        self._scheduler = scheduler
        self._vocabulary = parts.vllm_config.model_config.get_vocab_size() - FIRST_TOKEN_ID
        self._token_ids: dict[str, int] = {}
        self._added = 0

    def add(self, request_id: str) -> None:
        self._token_ids[request_id] = FIRST_TOKEN_ID + self._added % self._vocabulary
        self._added += 1

    def remove(self, request_id: str) -> None:
        del self._token_ids[request_id]

    def sample(self, output: Any) -> ModelRunnerOutput:
        """A token for every request whose prompt is through. To be called right after `schedule()`."""
        requests, token_ids = self._scheduler.requests, self._token_ids
        ids = list(output.num_scheduled_tokens)
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request_id: i for i, request_id in enumerate(ids)},
            sampled_token_ids=[[] if requests[i].is_prefill_chunk else [token_ids[i]] for i in ids],
        )
