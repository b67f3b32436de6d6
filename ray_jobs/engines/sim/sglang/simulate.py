"""One simulated run of SGLang, from a trace and a strategy to its records."""

from __future__ import annotations

from collections.abc import Callable

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.records import check_records
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.clock import VirtualClock, too_slow
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.conservation import check_lengths
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.roofline import StepTimeModel
from ray_jobs.engines.sim.sglang.adapter import VirtualAdapter
from ray_jobs.engines.sim.sglang.check import check_conservation
from ray_jobs.engines.sim.sglang.engine import SimulatedSGLang
from ray_jobs.engines.sim.sglang.world import VirtualWorld
from ray_jobs.workload.trace import Trace


def simulate(
    engine: SimulatedSGLang,
    sim: SimConfig,
    trace: Trace,
    settings: AdapterSettings,
    request_timeout_s: float = 1e9,
    run_timeout_s: float = 1e9,
) -> Outcome:
    """Runs `trace` under the strategy of `settings`, whose `events_path` is written and read back.

    Raises TimeoutError after `sim.wall_timeout_s` real seconds, IncompleteRecordsError if not every event
    reached the file, and with `sim.check` ConservationError.
    """
    clients, clock = VirtualClients(trace, request_timeout_s), VirtualClock()
    adapter = VirtualAdapter(settings, clock)
    model = StepTimeModel(sim.model_shape, sim.hardware, sim.calibration)
    world = VirtualWorld(
        engine.scheduler, adapter, clients, model, clock, run_timeout_s, sim.wall_timeout_s,
        _checked(engine, adapter) if sim.check else None,
    )  # fmt: skip
    engine.run(world, adapter)
    if world.too_slow:
        raise too_slow(sim.wall_timeout_s, clock)
    events = read_events(settings.events_path)
    check_records(settings, events, clients.logs)
    if sim.check:
        check_lengths(events)
    return Outcome(
        world.status,
        clients.logs,
        events,
        adapter.step_columns.frame(),
        clock.now,
        adapter.wall_clock_counters,
    )


def _checked(engine: SimulatedSGLang, adapter: VirtualAdapter) -> Callable[[], None]:
    return lambda: check_conservation(engine.scheduler, adapter)
