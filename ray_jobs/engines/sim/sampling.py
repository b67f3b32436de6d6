"""Stands for the model: makes up the tokens that it would have sampled."""

from __future__ import annotations

from typing import Any

from vllm.v1.outputs import ModelRunnerOutput

from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.own_tokens import OwnTokens


class Sampler(OwnTokens):
    """For vLLM's scheduler."""

    def __init__(self, scheduler: Any, parts: SchedulerParts):
        super().__init__(parts.vllm_config.model_config.get_vocab_size())
        self._scheduler = scheduler

    def sample(self, output: Any) -> ModelRunnerOutput:
        """A token for every request whose prompt is through. To be called right after `schedule()`."""
        requests, token_ids = self._scheduler.requests, self._token_ids
        ids = list(output.num_scheduled_tokens)
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request_id: i for i, request_id in enumerate(ids)},
            sampled_token_ids=[[] if requests[i].is_prefill_chunk else [token_ids[i]] for i in ids],
        )
