"""One simulated run, from a trace and a strategy to its records."""

from __future__ import annotations

from typing import Any, TypeVar

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.records import check_records
from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.check import check_conservation
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.clock import VirtualClock
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.conservation import check_lengths
from ray_jobs.engines.sim.loop import Simulation, Transfers
from ray_jobs.engines.sim.offload import host_memory
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.pool_shortcuts import shorten
from ray_jobs.engines.sim.prefix_hashes import PrefixHashes
from ray_jobs.engines.sim.roofline import StepTimeModel
from ray_jobs.engines.sim.scheduler import make_scheduler
from ray_jobs.workload.trace import Trace

Sim = TypeVar("Sim", bound=Simulation)


def simulate(
    parts: SchedulerParts,
    sim: SimConfig,
    trace: Trace,
    settings: AdapterSettings,
    request_timeout_s: float = 1e9,
    run_timeout_s: float = 1e9,
    record: str | None = None,
) -> Outcome:
    """Runs `trace` under the strategy of `settings`, whose `events_path` is written and read back. `record` is a folder for
    what a server records.

    Raises TimeoutError after `sim.wall_timeout_s` real seconds, IncompleteRecordsError if not every event
    reached the file, and with `sim.check` ConservationError.
    """
    clients = VirtualClients(trace, request_timeout_s)
    adapter = settings.to_dict() | ({"record": record} if record else {})
    simulation = make_simulation(Simulation, parts, sim, clients, adapter, run_timeout_s)
    scheduler = simulation.scheduler
    columns = scheduler.step_columns
    try:
        status = simulation.run()
    finally:
        measured = scheduler.wall_clock_counters
        scheduler.shutdown()
    events = read_events(settings.events_path)
    check_records(settings, events, clients.logs)
    if sim.check:
        check_lengths(events)
    return Outcome(status, clients.logs, events, columns.frame(), simulation.clock.now, measured)


def make_simulation(
    cls: type[Sim],
    parts: SchedulerParts,
    sim: SimConfig,
    clients: Any,
    adapter: dict[str, Any],
    run_timeout_s: float,
    transfers: Transfers | None = None,
    hashes: PrefixHashes | None = None,
) -> Sim:
    """One engine with a clock of its own; `clients` are those that it serves, `adapter` its settings, `transfers` what its
    connector's workers do, by default those of host memory, `hashes` what is known of sessions' prompts, by default its own."""
    clock, host = VirtualClock(), transfers or host_memory(parts, sim)
    # The connector of host memory reads what a step tells the workers, which the shortcuts leave out; NIXL's does not.
    scheduler = make_scheduler(parts, adapter, clock, sim.shortcuts and (host is None or host is transfers))
    if sim.shortcuts:
        shorten(scheduler.kv_cache_manager.block_pool)
    remembers = sim.shortcuts and parts.block_hasher is not None
    known = (hashes or PrefixHashes(parts.hash_block_size)) if remembers else None
    model = StepTimeModel(sim.model_shape, sim.hardware, sim.calibration, parts.work)
    return cls(
        parts, scheduler, clients, model, clock, run_timeout_s, sim.wall_timeout_s,
        check_conservation if sim.check else None, host, sim.scheduling, known,
    )  # fmt: skip
