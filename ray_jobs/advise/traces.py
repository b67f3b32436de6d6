"""The traces of search, confirmation and the rest: one for every seed, none in two of these parts."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.freeze import drafts_key, freeze_trace
from ray_jobs.workload.sources import find_source
from ray_jobs.workload.sources.shared.base import Draft
from ray_jobs.workload.trace import Trace
from tracking.errors import require

SEEDS_OF_A_RUN = 1_000_000  # `seed` of the command times this is where its seeds begin
PART = 100_000  # seeds of one part; parts are in the order of these
SEARCH, CONFIRM, RATES, REAL = (number * PART for number in range(4))
FIRST_TRACES = 2  # of stock, before anything else
SEARCHED_SHARE = 0.4  # of a frozen trace; the rest confirms


def is_parted(workload: WorkloadConfig) -> bool:
    """Whether the requests are windows of a recording: some for the search, others for the confirmation."""
    return workload.source.has_windows and workload.num_requests is not None


def is_fresh(seed: int) -> bool:
    """Whether a seed is one of those that confirm."""
    return seed % SEEDS_OF_A_RUN // PART * PART in (CONFIRM, REAL)


def _window(workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int) -> Trace:
    """The seed's window of its part of the file."""
    key = drafts_key(workload, vocab_size)
    drafts = recorded(workload, vocab_size)
    border = round(SEARCHED_SHARE * len(drafts))
    part = drafts[border:] if is_fresh(seed) else drafts[:border]
    require(
        len(part) >= workload.num_requests, "search.requests", workload.num_requests,
        f"at most {len(part)}: that many requests of {workload.source.path!r} are for this part of the search",
    )  # fmt: skip
    return freeze_trace(workload, seed, vocab_size, max_model_len, {key: part})


def recorded(workload: WorkloadConfig, vocab_size: int) -> list[Draft]:
    """Every request of the workload's file; read once for all of its windows, since a log may be long."""
    as_fast = replace(workload.arrivals, time_scale=1.0)
    only = replace(workload, num_requests=None, warmup_requests=0, arrivals=as_fast)
    state = Path(workload.source.path).expanduser().stat()
    return _read(pickle.dumps((only, vocab_size)), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read(pickled: bytes, changed_ns: int, size: int) -> list[Draft]:
    """Of a workload of which only the file counts, and the engine's vocabulary; a file that was changed is another."""
    workload, vocab_size = pickle.loads(pickled)
    return find_source(workload.source.kind).drafts(workload, 0, vocab_size)


def trace_of(workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int) -> Trace:
    """The workload's trace for a seed.

    A frozen trace is the same for every seed, so windows of it take turns: of its first part in the search
    and for rates, of the rest in the confirmation. Seeds beyond its windows get the same ones again, which
    the statistics see. With sessions, which a window would cut, it stays whole. A recording's windows, whatever the arrivals,
    are parted likewise.
    """
    if is_parted(workload):
        return _window(workload, seed, vocab_size, max_model_len)
    if workload.source.kind != "frozen":
        return freeze_trace(workload, seed, vocab_size, max_model_len)
    size, warmup = workload.num_requests, workload.warmup_requests
    whole = freeze_trace(
        replace(workload, num_requests=None, warmup_requests=0), seed, vocab_size, max_model_len
    )
    if size is None or whole.has_sessions:
        return whole
    border = round(SEARCHED_SHARE * len(whole.requests))
    fresh = is_fresh(seed)
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
