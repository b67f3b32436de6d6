"""What of a file did not become a request as it was, in one line."""

from __future__ import annotations

from ray_jobs.workload.trace import Trace


def left_out_line(trace: Trace) -> str | None:
    """How many requests a log had, and what was left out or cut; None where there is nothing to say."""
    meta = trace.meta
    said = []
    if "file_rows" in meta:
        count = meta["file_rows"] - meta["without_output"] - meta["without_prompt"]
        span = max(meta["span_s"], 1e-9)
        columns = ", ".join(dict.fromkeys(meta["columns"].values()))
        said.append(
            f"{count:,} of {meta['file_rows']:,} rows are requests over {_span(span)} ({count / span:.3g} req/s; columns {columns})"
        )
        for key, what in (("without_output", "an output"), ("without_prompt", "a prompt")):
            if meta[key]:
                said.append(f"{meta[key]:,} without {what} left out")
    requests, limit = len(trace.requests), meta.get("max_model_len")
    if meta.get("truncated"):
        said.append(f"{meta['truncated']:,} of {requests:,} requests cut to fit engine.max_model_len={limit}")
    if meta.get("dropped"):
        said.append(f"{meta['dropped']:,} longer than engine.max_model_len={limit} left out")
    return f"{trace.name}: {'; '.join(said)}" if said else None


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
