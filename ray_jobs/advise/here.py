"""Where a server and its load lie on the axes of the report: "you are here: 34 requests fit, at 95 % of capacity"."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.pressure import Pressure
from ray_jobs.workload.config import KINDS_WITH_SHARE
from tracking.evidence.scale import Scale

UNKNOWN = "how near to capacity nobody has looked (bidkv-capacity does)"


def here(config: RecommendConfig, pressure: Pressure | None) -> dict[str, Any] | None:
    """The place and a line of text; None if stock did not run.

    The load is the share that was asked for, or what arrives by what an overloaded engine served.
    """
    if pressure is None:
        return None
    load = config.workload.load_share
    if load is None and pressure.overloaded and pressure.served_req_s > 0:
        load = pressure.arrive_req_s / pressure.served_req_s
    scale = Scale(pressure.fits, pressure.sessions_fit, load)
    text = f"you are here: {scale.text or 'nobody knows the pool'}"
    findable = load is None and config.workload.arrivals.kind in KINDS_WITH_SHARE
    return asdict(scale) | {"text": f"{text}; {UNKNOWN}" if findable else text}
