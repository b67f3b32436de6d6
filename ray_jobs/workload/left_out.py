"""What of a file did not become a request as it was, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_jobs.workload.trace import Trace

FEW = 10  # requests of which the longest gap says nothing
LIMIT = "engine.max_model_len"


def left_out_line(trace: Trace, limit_key: str = LIMIT) -> str | None:
    """How many requests a log had, and what was left out or cut; None where there is nothing to say. `limit_key` is what
    the command calls the longest request."""
    return left_out(trace.name, len(trace.requests), trace.meta, limit_key)


def left_out(name: str, requests: int, meta: Mapping[str, Any], limit_key: str = LIMIT) -> str | None:
    """The same of a trace's `meta`."""
    said = []
    if "file_rows" in meta:
        count = meta["file_rows"] - meta["without_output"] - meta["without_prompt"]
        columns = ", ".join(dict.fromkeys(meta["columns"].values()))
        rate = (
            f" ({count / meta['span_s']:.3g} req/s; columns {columns})"
            if meta["span_s"]
            else f" (columns {columns})"
        )
        said.append(
            f"{count:,} of {meta['file_rows']:,} rows are requests over {_span(meta['span_s'])}{rate}"
        )
        for key, what in (("without_output", "an output"), ("without_prompt", "a prompt")):
            if meta[key]:
                said.append(f"{meta[key]:,} without {what} left out")
        said += _odd_times(count, meta)
    limit = meta.get("max_model_len")
    if meta.get("truncated"):
        said.append(f"{meta['truncated']:,} of {requests:,} requests cut to fit {limit_key}={limit}")
    if meta.get("dropped"):
        said.append(f"{meta['dropped']:,} longer than {limit_key}={limit} left out")
    return f"{name}: {'; '.join(said)}" if said else None


def _odd_times(count: int, meta: Mapping[str, Any]) -> list[str]:
    """What makes another load of it than the server had: times that were rounded, or mixed units or a pause."""
    said = []
    if count >= 2 * meta["moments"]:
        said.append(
            f"times are coarse: {meta['moments']:,} different ones, up to {meta['at_once']:,} requests at once"
        )
    if count > FEW and 2 * meta["longest_gap_s"] > meta["span_s"]:
        said.append(f"nothing arrives for {_span(meta['longest_gap_s'])} of it")
    return said


def _span(seconds: float) -> str:
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"
