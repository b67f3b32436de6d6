"""What SGLang's tokenizer process would send to its scheduler."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from sglang.srt.managers.io_struct import AbortReq, TokenizedGenerateReqInput
from sglang.srt.sampling.sampling_params import SamplingParams

from ray_jobs.workload.trace import TraceRequest


def generate(request: TraceRequest, facts: Mapping[str, Any]) -> TokenizedGenerateReqInput:
    """A request as a real engine's client sends it. `facts` are what that declares to the adapter, which ends the output at
    its true length; SGLang's admission reckons with `max_tokens`."""
    own = {"true_output_tokens": request.output_tokens, "priority": request.priority}
    sampling = SamplingParams(
        temperature=0.0, max_new_tokens=request.max_tokens, custom_params={"bidkv": {**facts, **own}}
    )
    return tokenized(request.request_id, request.prompt_token_ids.tolist(), sampling)


def tokenized(
    request_id: str, prompt: Sequence[int], sampling: SamplingParams, priority: int | None = None
) -> TokenizedGenerateReqInput:
    """A prompt and how it is to be answered, with nothing that only other kinds of requests have."""
    sampling.normalize(None)
    return TokenizedGenerateReqInput(
        rid=request_id,
        input_text=None,
        input_ids=array("q", prompt),
        input_embeds=None,
        mm_inputs=None,
        token_type_ids=None,
        sampling_params=sampling,
        return_logprob=False,
        logprob_start_len=-1,
        top_logprobs_num=0,
        token_ids_logprob=None,
        stream=False,
        priority=priority,
    )


def abort(request_id: str) -> AbortReq:
    """Its client has gone."""
    return AbortReq(rid=request_id)
