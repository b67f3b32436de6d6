"""Freezes a workload of conversations into a trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ray_jobs.workload.arrivals import arrival_times
from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.drafts import fit, fits, make_request, trace_facts
from ray_jobs.workload.sources import find_source
from ray_jobs.workload.sources.shared.base import TokenMaker, TurnDraft
from ray_jobs.workload.trace import Trace, TraceRequest
from ray_jobs.workload.warmup import check_measured, is_warmup
from tracking.errors import require


def freeze_sessions(workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int) -> Trace:
    """The trace of as many sessions as `SessionsConfig` says; see `freeze_trace`.

    With `workload.fit=drop` a session ends before the first turn that is too long, sub-agents each for
    themselves. A session's requests are all warm-up if its first one is.
    """
    drafts, truncated, dropped = _usable(workload, seed, vocab_size, max_model_len)
    begins = arrival_times(workload.arrivals, workload.rate, len(drafts), seed)
    requests: list[TraceRequest] = []
    for number, (session, begin) in enumerate(zip(drafts, begins, strict=True)):
        maker = TokenMaker(seed, vocab_size)  # one for each: sessions share little, and there may be many
        requests += _requests(session, number, float(begin), workload, maker, max_model_len)
    requests.sort(key=lambda request: request.arrival_s)
    first: dict[str, bool] = {}
    for place, request in enumerate(requests):
        first.setdefault(request.session, is_warmup(place, request.arrival_s, workload))
    measured = tuple(replace(request, warmup=first[request.session]) for request in requests)
    check_measured(measured, workload)
    facts = trace_facts(workload, vocab_size, max_model_len, truncated, dropped)
    return Trace(workload.name, seed, measured, meta=facts | {"sessions": len(drafts)})


def _usable(
    workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int
) -> tuple[list[list[TurnDraft]], int, int]:
    """As many sessions as wanted, scaled and fitted; how many turns were cut, and how many left out."""
    count, requests = workload.sessions.count, 0
    usable: list[list[TurnDraft]] = []
    truncated = dropped = 0
    for session in find_source(workload.source.kind).sessions(workload, seed, vocab_size):
        limited = [replace(t, draft=t.draft.scaled(workload.length_scale)) for t in session]
        limited = limited[: workload.sessions.max_turns]
        if workload.fit == "drop":
            kept = list(_kept(limited, workload, max_model_len))
            dropped += len(limited) - len(kept)
            limited = kept
        fitted = [replace(t, draft=fit(t.draft, n, workload, max_model_len)) for n, t in enumerate(limited)]
        truncated += sum(new.draft is not old.draft for new, old in zip(fitted, limited, strict=True))
        if fitted:
            usable.append(fitted)
            requests += len(fitted)
        if len(usable) == count or requests >= (workload.num_requests or math.inf):
            return usable, truncated, dropped
    require(
        bool(usable), "workload.fit", workload.fit, "error or truncate here: every session would be dropped"
    )
    where = f"workload.source.path={workload.source.path!r}"
    require(
        count is None, "workload.sessions.count", count, f"<= {len(usable)}, the usable sessions of {where}"
    )
    wanted = workload.num_requests
    require(wanted is None, "workload.num_requests", wanted, f"<= {requests}, the usable requests of {where}")
    return usable, truncated, dropped


def _kept(session: list[TurnDraft], workload: WorkloadConfig, max_model_len: int) -> Iterator[TurnDraft]:
    """The turns that fit and go on from one that does; none waits for an answer that was left out."""
    places: dict[int, int] = {}
    for place, turn in enumerate(session):
        orphan = bool(turn.parents) and turn.parents[0] not in places
        if not orphan and fits(turn.draft, workload, max_model_len):
            places[place] = len(places)
            yield replace(turn, parents=tuple(places[p] for p in turn.parents if p in places))


def _requests(
    session: list[TurnDraft],
    number: int,
    begin_s: float,
    workload: WorkloadConfig,
    maker: TokenMaker,
    max_model_len: int,
) -> list[TraceRequest]:
    name, sessions = f"{workload.name}-{number:05d}", workload.sessions
    longest = sessions.max_think_s
    requests: list[TraceRequest] = []
    for place, turn in enumerate(session):
        think = (turn.think_s if longest is None else min(turn.think_s, longest)) * sessions.think_scale
        parents = [requests[parent] for parent in turn.parents]
        earliest = max((p.arrival_s for p in parents), default=begin_s)
        if parents:
            earliest = max(earliest, parents[0].arrival_s + think)
        requests.append(
            make_request(
                turn.draft,
                f"{name}-{place:04d}",
                earliest,
                workload,
                maker,
                max_model_len,
                session=name,
                turn=turn.turn,
                parents=tuple(parent.request_id for parent in parents),
                think_time_s=think if parents else 0.0,
            )
        )
    return requests
