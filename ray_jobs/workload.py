"""Freezes a workload into a trace: the same configuration and seed give the same trace, bit by bit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ray_jobs.arrivals import arrival_times
from ray_jobs.lengths import declared_tokens
from ray_jobs.sources import make_drafts
from ray_jobs.sources.base import Draft, TokenMaker, source_file
from ray_jobs.streams import stream
from ray_jobs.trace import Trace, TraceRequest
from ray_jobs.workload_config import WorkloadConfig, require


def freeze_trace(workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int) -> Trace:
    """The trace of a workload for a model with `vocab_size` tokens and `max_model_len` tokens a request.

    Arrivals, kinds, lengths and tokens are independent of each other: another rate keeps the prompts,
    and more requests begin with the fewer. Raises ValueError, naming the key, if it cannot be done.
    """
    if workload.source.kind == "frozen":
        return _frozen(workload, vocab_size, max_model_len)
    maker = TokenMaker(seed, vocab_size)
    drafts = [draft.scaled(workload.length_scale) for draft in make_drafts(workload, seed, vocab_size)]
    found = len(drafts)
    if workload.fit == "drop":
        drafts = [draft for draft in drafts if _fits(draft, workload, max_model_len)]
    dropped = found - len(drafts)
    drafts = _pick(workload, drafts, seed)
    fitted = [_fit(draft, number, workload, max_model_len) for number, draft in enumerate(drafts)]
    arrivals = arrival_times(
        workload.arrivals, workload.rate, len(fitted), seed, [draft.recorded_s for draft in fitted]
    )
    requests = tuple(
        _request(draft, number, float(arrival), workload, maker, max_model_len)
        for number, (draft, arrival) in enumerate(zip(fitted, arrivals, strict=True))
    )
    _check_measured(requests, workload)
    closed = workload.arrivals.kind == "closed_loop"
    return Trace(
        name=workload.name,
        seed=seed,
        requests=requests,
        closed_loop_users=workload.arrivals.users if closed else None,
        think_time_s=workload.arrivals.think_time_s if closed else 0.0,
        meta={
            "source": workload.source.kind,
            "arrivals": workload.arrivals.kind,
            "rate": workload.rate,
            "length_scale": workload.length_scale,
            "vocab_size": vocab_size,
            "max_model_len": max_model_len,
            "truncated": sum(new is not old for new, old in zip(fitted, drafts, strict=True)),
            "dropped": dropped,
            **_file_facts(workload),
        },
    )


def _fits(draft: Draft, workload: WorkloadConfig, max_model_len: int) -> bool:
    prompt = len(draft.prompt)
    return prompt <= (workload.max_prompt_tokens or prompt) and prompt + draft.output_tokens <= max_model_len


def _fit(draft: Draft, number: int, workload: WorkloadConfig, max_model_len: int) -> Draft:
    """The draft itself if it fits, else cut down: the output to half the model's length, then the prompt."""
    if _fits(draft, workload, max_model_len):
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


def _pick(workload: WorkloadConfig, drafts: list[Draft], seed: int) -> list[Draft]:
    """As many as wanted, in the file's order unless they are a random sample without a replay."""
    require(
        bool(drafts), "workload.fit", workload.fit, "error or truncate here: every request would be dropped"
    )
    count = workload.num_requests
    if workload.source.kind == "mixture" or count is None:
        return drafts
    total = len(drafts)
    require(
        count <= total, "workload.num_requests", count,
        f"<= {total}, the usable requests of workload.source.path={workload.source.path!r}",
    )  # fmt: skip
    if workload.source.pick == "head":
        return drafts[:count]
    random = stream(seed, "pick")
    if workload.source.pick == "window":
        begin = int(random.integers(total - count + 1))
        return drafts[begin : begin + count]
    chosen: Sequence[int] = random.permutation(total)[:count]
    if workload.arrivals.kind == "replay":
        chosen = sorted(chosen)
    return [drafts[index] for index in chosen]


def _request(
    draft: Draft,
    number: int,
    arrival_s: float,
    workload: WorkloadConfig,
    maker: TokenMaker,
    max_model_len: int,
) -> TraceRequest:
    fixed = draft.max_tokens or max(1, round(workload.declared.max_tokens * workload.length_scale))
    return TraceRequest(
        request_id=f"{draft.kind}-{number:05d}",
        arrival_s=arrival_s,
        prompt_token_ids=draft.prompt.tokens(maker),
        output_tokens=draft.output_tokens,
        max_tokens=declared_tokens(
            workload.declared, draft.output_tokens, fixed, room=max_model_len - len(draft.prompt)
        ),
        priority=draft.priority,
        deadline_s=draft.deadline_s,
        kind=draft.kind,
        warmup=_is_warmup(number, arrival_s, workload),
    )


def _is_warmup(number: int, arrival_s: float, workload: WorkloadConfig) -> bool:
    return number < workload.warmup_requests or arrival_s < workload.warmup_s


def _check_measured(requests: Sequence[TraceRequest], workload: WorkloadConfig) -> None:
    require(
        not all(request.warmup for request in requests), "workload.warmup_s", workload.warmup_s,
        f"below the last arrival at {requests[-1].arrival_s:.1f} s (and workload.warmup_requests below "
        f"{len(requests)}), or nothing is measured",
    )  # fmt: skip


def _frozen(workload: WorkloadConfig, vocab_size: int, max_model_len: int) -> Trace:
    """A saved trace, of which the count, the time scale and the warm-up may be set anew, nothing else."""
    trace = Trace.load(source_file(workload.source.path))
    count = workload.num_requests or len(trace.requests)
    require(count <= len(trace.requests), "workload.num_requests", count, f"<= {len(trace.requests)}")
    requests = tuple(
        _rewarmed(
            replace(request, arrival_s=request.arrival_s * workload.arrivals.time_scale), number, workload
        )
        for number, request in enumerate(trace.requests[:count])
    )
    for request in requests:
        length = len(request.prompt_token_ids) + request.output_tokens
        require(
            length <= max_model_len, "engine.max_model_len", max_model_len,
            f">= {length} for request {request.request_id!r} of the frozen trace",
        )  # fmt: skip
        largest = int(np.max(request.prompt_token_ids))
        require(
            largest < vocab_size, "engine.vocab_size", vocab_size,
            f"> {largest}, a token of request {request.request_id!r} of the frozen trace",
        )  # fmt: skip
    _check_measured(requests, workload)
    return replace(trace, requests=requests)


def _rewarmed(request: TraceRequest, number: int, workload: WorkloadConfig) -> TraceRequest:
    if not (workload.warmup_requests or workload.warmup_s):
        return request
    return replace(request, warmup=_is_warmup(number, request.arrival_s, workload))


def _file_facts(workload: WorkloadConfig) -> dict[str, Any]:
    """Name and SHA-256 of the source's file, if it has one."""
    if workload.source.kind == "mixture":
        return {}
    file = source_file(workload.source.path)
    return {"file": file.name, "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
