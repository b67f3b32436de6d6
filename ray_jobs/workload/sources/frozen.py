"""A trace that `bidkv-freeze` saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ray_jobs.workload.arrivals import replay_scale
from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import source_file
from ray_jobs.workload.trace import Trace, TraceRequest
from ray_jobs.workload.warmup import check_measured, is_warmup
from tracking.errors import require

HAS_TIMES = True


def trace(config: WorkloadConfig, vocab_size: int, max_model_len: int) -> Trace:
    """A saved trace, of which the count, the time scale and the warm-up may be set anew, nothing else."""
    path = config.source.path
    try:
        saved = Trace.load(source_file(path))
    except ValueError as error:
        cure = "a trace that bidkv-freeze wrote; a log of your server is workload=csv"
        raise ValueError(f"workload.source.path={path!r}: must be {cure} ({error})") from None
    count = config.num_requests or len(saved.requests)
    require(count <= len(saved.requests), "workload.num_requests", count, f"<= {len(saved.requests)}")
    require(
        config.load_share is None or not (saved.closed_loop_users or any(r.parents for r in saved.requests)),
        "workload.load", config.load, "a name: the clients of this frozen trace wait for their answers",
    )  # fmt: skip
    arrivals = [request.arrival_s for request in saved.requests[:count]]
    scale = replay_scale(arrivals, config.arrivals, config.rate)
    requests = tuple(
        _rewarmed(_rescaled(request, scale), number, config)
        for number, request in enumerate(saved.requests[:count])
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
    check_measured(requests, config)
    return replace(saved, requests=requests)


def _rescaled(request: TraceRequest, scale: float) -> TraceRequest:
    return replace(request, arrival_s=request.arrival_s * scale, think_time_s=request.think_time_s * scale)


def _rewarmed(request: TraceRequest, number: int, workload: WorkloadConfig) -> TraceRequest:
    if not (workload.warmup_requests or workload.warmup_s):
        return request
    return replace(request, warmup=is_warmup(number, request.arrival_s, workload))
