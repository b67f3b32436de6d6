"""Which requests of a trace are warm-up: sent like all others, left out of the metrics."""

from __future__ import annotations

from collections.abc import Sequence

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.trace import TraceRequest
from tracking.errors import require


def is_warmup(number: int, arrival_s: float, workload: WorkloadConfig) -> bool:
    """Whether request `number` (from 0), which arrives at `arrival_s`, is warm-up."""
    return number < workload.warmup_requests or arrival_s < workload.warmup_s


def check_measured(requests: Sequence[TraceRequest], workload: WorkloadConfig) -> None:
    """Raises ValueError if all requests are warm-up."""
    require(
        not all(request.warmup for request in requests), "workload.warmup_s", workload.warmup_s,
        f"below the last arrival at {requests[-1].arrival_s:.1f} s (and workload.warmup_requests below "
        f"{len(requests)}), or nothing is measured",
    )  # fmt: skip
