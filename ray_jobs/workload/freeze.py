"""Freezes a workload into a trace: the same configuration and seed give the same trace, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from ray_jobs.workload.arrivals import arrival_times
from ray_jobs.workload.chats import chat_fields
from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.drafts import fit, fits, make_request, trace_facts
from ray_jobs.workload.freeze_sessions import freeze_sessions
from ray_jobs.workload.sources import find_source, has_file
from ray_jobs.workload.sources.shared.base import Draft, TokenMaker
from ray_jobs.workload.sources.shared.files import readable
from ray_jobs.workload.streams import stream
from ray_jobs.workload.trace import Trace
from ray_jobs.workload.warmup import check_measured, is_warmup
from ray_jobs.workload.windows import Rows, rows_of, stretches
from tracking.errors import require

Parsed = dict[str, list[Draft]]
"""The drafts of source files that were read before."""


def freeze_trace(
    workload: WorkloadConfig, seed: int, vocab_size: int, max_model_len: int, parsed: Parsed | None = None
) -> Trace:
    """The trace of a workload for a model with `vocab_size` tokens and `max_model_len` tokens a request.

    Arrivals, kinds, lengths and tokens are independent of each other: another rate keeps the prompts,
    and more requests begin with the fewer. `parsed` keeps what a file says for the next trace from it.
    Raises ValueError, naming the key, if it cannot be done.
    """
    require(
        workload.rate is not None, "workload.load", workload.load,
        "a name, or given with workload.capacity (bidkv-capacity finds it)",
    )  # fmt: skip
    source = find_source(workload.source.kind)
    with readable(workload.source.path):
        if hasattr(source, "trace"):
            return source.trace(workload, vocab_size, max_model_len)
        if hasattr(source, "sessions"):
            return freeze_sessions(workload, seed, vocab_size, max_model_len)
        drafts = _drafts(source, workload, seed, vocab_size, {} if parsed is None else parsed)
    maker = TokenMaker(seed, vocab_size)
    drafts = [draft.scaled(workload.length_scale) for draft in drafts]
    found = len(drafts)
    if workload.fit == "drop":
        drafts = [draft for draft in drafts if fits(draft, workload, max_model_len)]
    dropped = found - len(drafts)
    drafts, rows = _pick(workload, drafts, seed)
    fitted = [fit(draft, number, workload, max_model_len) for number, draft in enumerate(drafts)]
    arrivals = arrival_times(
        workload.arrivals, workload.rate, len(fitted), seed, [draft.recorded_s for draft in fitted]
    )
    ids = [f"{draft.kind}-{number:05d}" for number, draft in enumerate(fitted)]
    chats = chat_fields(workload, fitted, ids)
    requests = tuple(
        make_request(
            draft,
            ids[number],
            float(arrival),
            workload,
            maker,
            max_model_len,
            warmup=is_warmup(number, float(arrival), workload),
            **chats[number],
        )
        for number, (draft, arrival) in enumerate(zip(fitted, arrivals, strict=True))
    )
    check_measured(requests, workload)
    closed = workload.arrivals.kind == "closed_loop"
    return Trace(
        name=workload.name,
        seed=seed,
        requests=requests,
        closed_loop_users=workload.arrivals.users if closed else None,
        think_time_s=workload.arrivals.think_time_s if closed else 0.0,
        meta=trace_facts(
            workload,
            vocab_size,
            max_model_len,
            truncated=sum(new is not old for new, old in zip(fitted, drafts, strict=True)),
            dropped=dropped,
        )
        | (source.facts(workload) if hasattr(source, "facts") else {})
        | ({"rows": [rows.begin, rows.end, rows.total]} if rows else {}),
    )


def drafts_key(workload: WorkloadConfig, vocab_size: int) -> str:
    """Under which `parsed` keeps the requests of the workload's file."""
    return repr((workload.name, workload.source, vocab_size))


def _drafts(
    source: ModuleType, workload: WorkloadConfig, seed: int, vocab_size: int, parsed: Parsed
) -> list[Draft]:
    if not getattr(source, "OF_THE_FILE", False):
        return source.drafts(workload, seed, vocab_size)
    key = drafts_key(workload, vocab_size)
    if key not in parsed:
        parsed[key] = source.drafts(workload, seed, vocab_size)
        require(bool(parsed[key]), "workload.source.path", workload.source.path, "a file with requests in it")
    return parsed[key]


def _pick(workload: WorkloadConfig, drafts: list[Draft], seed: int) -> tuple[list[Draft], Rows | None]:
    """As many as wanted, in the file's order unless they are a random sample without a replay; the rows of a window."""
    require(
        bool(drafts), "workload.fit", workload.fit, "error or truncate here: every request would be dropped"
    )
    count = workload.num_requests
    if not has_file(workload.source.kind) or count is None:
        return drafts, None
    total = len(drafts)
    require(
        count <= total, "workload.num_requests", count,
        f"<= {total}, the usable requests of workload.source.path={workload.source.path!r}",
    )  # fmt: skip
    if workload.source.has_windows:
        rows = rows_of(seed, count, total)
        return drafts[rows.begin : rows.end], rows
    if workload.source.pick in (
        "head",
        "window",
    ):  # such a window: the source has drawn a place for each seed
        return drafts[:count], None
    if workload.source.pick == "spread":
        mixed = [row for rows in stretches(count, total) for row in rows]
        return [drafts[row] for row in (sorted(mixed) if workload.arrivals.kind == "replay" else mixed)], None
    chosen: Sequence[int] = stream(seed, "pick").permutation(total)[:count]
    if workload.arrivals.kind == "replay":
        chosen = sorted(chosen)
    return [drafts[index] for index in chosen], None
