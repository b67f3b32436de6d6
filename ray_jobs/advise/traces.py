"""The traces of search, confirmation and the rest: one for every seed, none in two of these parts."""

from __future__ import annotations

from dataclasses import replace

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.trace import Trace
from tracking.errors import require

SEEDS_OF_A_RUN = 1_000_000  # `seed` of the command times this is where its seeds begin
PART = 100_000  # seeds of one part; parts are in the order of these
SEARCH, CONFIRM, RATES, REAL = (number * PART for number in range(4))
SEARCHED_SHARE = 0.4  # of a frozen trace; the rest confirms


def trace_of(workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int) -> Trace:
    """The workload's trace for a seed.

    A frozen trace is the same for every seed, so windows of it take turns: of its first part in the search
    and for rates, of the rest in the confirmation. Seeds beyond its windows get the same ones again, which
    the statistics see. With sessions, which a window would cut, it stays whole.
    """
    if workload.source.kind != "frozen":
        return freeze_trace(workload, seed, vocab_size, max_model_len)
    size, warmup = workload.num_requests, workload.warmup_requests
    whole = freeze_trace(
        replace(workload, num_requests=None, warmup_requests=0), seed, vocab_size, max_model_len
    )
    if size is None or whole.has_sessions:
        return whole
    border = round(SEARCHED_SHARE * len(whole.requests))
    fresh = seed % SEEDS_OF_A_RUN // PART * PART in (CONFIRM, REAL)
    part = whole.requests[border:] if fresh else whole.requests[:border]
    begin = seed % PART % max(1, len(part) // size) * size
    chosen = part[begin : begin + size]
    require(
        len(chosen) > warmup, "search.requests", size,
        f"less: a part of this frozen trace has {len(part)} requests, of which {warmup} would be warm-up",
    )  # fmt: skip
    requests = tuple(
        replace(request, arrival_s=request.arrival_s - chosen[0].arrival_s, warmup=number < warmup)
        for number, request in enumerate(chosen)
    )
    return replace(whole, requests=requests, meta=whole.meta | {"window": [begin, len(requests), fresh]})
