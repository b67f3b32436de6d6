"""One simulated run, from a trace and a strategy to its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bidkv.adapters.events import read_events
from bidkv.adapters.settings import AdapterSettings
from ray_jobs.load import RequestLog
from ray_jobs.sim.build import SchedulerParts
from ray_jobs.sim.check import check_conservation, check_finished
from ray_jobs.sim.clients import VirtualClients
from ray_jobs.sim.clock import VirtualClock
from ray_jobs.sim.config import SimConfig
from ray_jobs.sim.loop import Simulation
from ray_jobs.sim.roofline import StepTimeModel
from ray_jobs.sim.scheduler import make_scheduler
from ray_jobs.trace import Trace


@dataclass
class Outcome:
    """Records of a run on virtual time; `measured` are real nanoseconds that stay out of the records."""

    status: str
    logs: list[RequestLog]
    events: list[dict[str, Any]]
    steps: pd.DataFrame
    duration_s: float
    measured: dict[str, int]


def simulate(
    parts: SchedulerParts,
    sim: SimConfig,
    trace: Trace,
    settings: AdapterSettings,
    request_timeout_s: float = 1e9,
    run_timeout_s: float = 1e9,
) -> Outcome:
    """Runs `trace` under the strategy of `settings`, whose `events_path` is written and read back.

    Raises TimeoutError after `sim.wall_timeout_s` real seconds, and with `sim.check` ConservationError.
    """
    clock = VirtualClock()
    scheduler = make_scheduler(parts, settings.to_dict(), clock, sim.shortcuts)
    columns = scheduler.step_columns
    clients = VirtualClients(trace, request_timeout_s)
    model = StepTimeModel(sim.model_shape, sim.hardware, sim.calibration)
    simulation = Simulation(
        parts, scheduler, clients, model, clock, run_timeout_s, sim.wall_timeout_s,
        check_conservation if sim.check else None,
    )  # fmt: skip
    try:
        status = simulation.run()
    finally:
        measured = scheduler.wall_clock_counters
        scheduler.shutdown()
    events = read_events(settings.events_path)
    if sim.check:
        for event in events:
            if event["type"] == "request" and event["reason"] == "length":
                check_finished(event)
    return Outcome(status, clients.logs, events, columns.frame(), clock.now, measured)
