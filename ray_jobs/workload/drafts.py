"""From drafts to requests of a trace: what fits the model, and with which tokens."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.lengths import declared_tokens
from ray_jobs.workload.sources import has_file
from ray_jobs.workload.sources.shared.base import Draft, TokenMaker
from ray_jobs.workload.trace import TraceRequest
from tracking.errors import require


def fits(draft: Draft, workload: WorkloadConfig, max_model_len: int) -> bool:
    """Whether the model holds prompt and output, and the prompt is not above its own limit."""
    prompt = len(draft.prompt)
    return prompt <= (workload.max_prompt_tokens or prompt) and prompt + draft.output_tokens <= max_model_len


def fit(draft: Draft, number: int, workload: WorkloadConfig, max_model_len: int) -> Draft:
    """The draft itself if it fits, else cut down: the output to half the model's length, then the prompt."""
    if fits(draft, workload, max_model_len):
        return draft
    prompt = len(draft.prompt)
    require(
        workload.fit == "truncate", "workload.fit", workload.fit,
        f"truncate or drop: request {number} has {prompt} prompt and {draft.output_tokens} output tokens, "
        f"allowed are engine.max_model_len={max_model_len} together and "
        f"workload.max_prompt_tokens={workload.max_prompt_tokens} (workload.length_scale makes all shorter)",
    )  # fmt: skip
    output = draft.output_tokens
    if prompt + output > max_model_len:
        output = min(output, max_model_len // 2)
    room = min(max_model_len - output, workload.max_prompt_tokens or prompt)
    return replace(draft, prompt=draft.prompt.cut(room), output_tokens=output)


def make_request(
    draft: Draft,
    request_id: str,
    arrival_s: float,
    workload: WorkloadConfig,
    maker: TokenMaker,
    max_model_len: int,
    **more: Any,
) -> TraceRequest:
    """The request of a draft that fits; `more` are further fields of a TraceRequest."""
    fixed = draft.max_tokens or max(1, round(workload.declared.max_tokens * workload.length_scale))
    return TraceRequest(
        request_id=request_id,
        arrival_s=arrival_s,
        prompt_token_ids=draft.prompt.tokens(maker),
        output_tokens=draft.output_tokens,
        max_tokens=declared_tokens(
            workload.declared, draft.output_tokens, fixed, room=max_model_len - len(draft.prompt)
        ),
        priority=draft.priority,
        deadline_s=draft.deadline_s,
        kind=draft.kind,
        **more,
    )


def trace_facts(
    workload: WorkloadConfig, vocab_size: int, max_model_len: int, truncated: int, dropped: int
) -> dict[str, Any]:
    """`meta` of a trace: where it comes from and how many requests were cut or left out to fit."""
    return {
        "source": workload.source.kind,
        "arrivals": workload.arrivals.kind,
        "rate": workload.rate,
        "length_scale": workload.length_scale,
        "vocab_size": vocab_size,
        "max_model_len": max_model_len,
        "truncated": truncated,
        "dropped": dropped,
        **_file_facts(workload),
    }


def _file_facts(workload: WorkloadConfig) -> dict[str, Any]:
    """Name and SHA-256 of the source's file, or of all files of its folder, if it has one."""
    if not has_file(workload.source.kind):
        return {}
    path = Path(workload.source.path).expanduser()
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return {"file": path.name, "file_sha256": digest.hexdigest()}
