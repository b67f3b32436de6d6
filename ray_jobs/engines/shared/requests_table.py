"""Joins what the client saw with what the scheduler counted, one row a request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.workload.trace import TraceRequest
from tracking.result import REQUEST_COLUMNS

COUNTS = ("cached", "executed", "recomputed", "restored", "restored_resume", "preemptions", "preempted_s")
NOT_SEEN = dict.fromkeys(COUNTS, 0) | {"resume_delays": []}
NOT_KNOWN = dict.fromkeys(COUNTS, math.nan) | {"resume_delays": []}


def requests_table(logs: Iterable[RequestLog], events: Iterable[dict[str, Any]] | None) -> pd.DataFrame:
    """The `requests` table of a RunResult. A request the scheduler never saw has zero counts; without
    records (`events` is None) they are NaN."""
    missing = NOT_KNOWN if events is None else NOT_SEEN
    counted = {event["id"]: event for event in events or () if event["type"] == "request"}
    logs, rows = [*logs], []
    prompts = {log.request.request_id: log.request.prompt_token_ids for log in logs if log.request.session}
    for log in logs:
        request = log.request
        seen = counted.get(request.request_id, missing)
        rows.append(
            {
                "request_id": request.request_id,
                "kind": request.kind,
                "status": log.status,
                "error": log.error,
                "warmup": request.warmup,
                "scheduled_t": log.scheduled_t,
                "sent_t": log.sent_t,
                "first_token_t": log.first_token_t,
                "finish_t": log.finish_t,
                "prompt_tokens": len(request.prompt_token_ids),
                "output_tokens": log.output_tokens,
                "true_output_tokens": request.output_tokens,
                "max_tokens": request.max_tokens,
                "deadline_s": math.nan if request.deadline_s is None else request.deadline_s,
                "itl_s": log.itl_s,
                "cached_tokens": seen["cached"],
                "executed_tokens": seen["executed"],
                "recomputed_tokens": seen["recomputed"],
                "preemptions": seen["preemptions"],
                "preempted_s": seen["preempted_s"],
                "resume_delay_s": max(seen["resume_delays"], default=math.nan),
                "session": request.session,
                "turn": request.turn if request.session else math.nan,
                "restored_tokens": seen["restored"],
                "restored_resume_tokens": seen["restored_resume"],
                "earlier_tokens": _earlier(request, prompts) if request.session else math.nan,
            }
        )
    return pd.DataFrame(rows, columns=list(REQUEST_COLUMNS))


def _earlier(request: TraceRequest, prompts: Mapping[str, np.ndarray]) -> int:
    """Tokens with which both its prompt and that of its first parent begin; 0 for a first turn."""
    if not request.parents:
        return 0
    before, prompt = prompts[request.parents[0]], request.prompt_token_ids
    most = min(len(before), len(prompt))
    same = before[:most] == prompt[:most]
    return most if same.all() else int(same.argmin())
