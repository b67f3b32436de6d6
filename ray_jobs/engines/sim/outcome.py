"""What a run on virtual time leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ray_jobs.engines.shared.load import RequestLog


@dataclass
class Outcome:
    """Records of a run on virtual time; `measured` are real nanoseconds that stay out of the records."""

    status: str
    logs: list[RequestLog]
    events: list[dict[str, Any]]
    steps: pd.DataFrame
    duration_s: float
    measured: dict[str, int]
