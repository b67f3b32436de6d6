"""One simulated run of several replicas behind a router, from a trace and a strategy to its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.config import RouterConfig
from ray_jobs.engines.routers.news import News
from ray_jobs.engines.shared.records import check_records
from ray_jobs.engines.shared.replicas import merge_events, merge_steps
from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.conservation import check_lengths
from ray_jobs.engines.sim.fleet import Fleet
from ray_jobs.engines.sim.kv_events import PromptBlocks, Publisher, with_kv_events
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.prefix_hashes import PrefixHashes
from ray_jobs.engines.sim.replica import Desk, Replica
from ray_jobs.engines.sim.simulate import make_simulation
from ray_jobs.workload.trace import Trace


def simulate_fleet(
    parts: SchedulerParts,
    sim: SimConfig,
    trace: Trace,
    settings: AdapterSettings,
    replicas: int,
    router: RouterConfig,
    request_timeout_s: float = 1e9,
    run_timeout_s: float = 1e9,
) -> Outcome:
    """Runs `trace` on `replicas` engines like `parts`, each with a strategy and a file of events of its own.

    Events and steps are those of all of them in the order of time, with their `replica`; `run_start` and `run_end` are
    one, with counters that are sums. Raises as `simulate` does, and as `with_kv_events` with a router that hears.
    """
    clients = VirtualClients(trace, request_timeout_s)
    own = [settings.of_rank(f"replica{number}") for number in range(replicas)]
    hears = router.rule.hears
    news: list[list[News]] = [[] for _ in own] if hears else []
    parts = with_kv_events(parts) if hears else parts
    desks = [Desk(clients, each) for each in news] if hears else [Desk(clients) for _ in own]
    hashes = PrefixHashes(parts.hash_block_size)
    engines = [
        make_simulation(Replica, parts, sim, desk, each.to_dict(), run_timeout_s, hashes=hashes)
        for desk, each in zip(desks, own, strict=True)
    ]
    rule = router.make(replicas, engines[0].scheduler.pool_tokens, settings.seed)
    if hears:
        rule.listen(parts.block_size, PromptBlocks(parts, hashes))
        for engine, each in zip(engines, news, strict=True):
            engine.scheduler.kv_event_publisher = Publisher(each.append)
    fleet = Fleet(engines, clients, rule, router.stale_s, run_timeout_s, sim.wall_timeout_s, news)
    return run_fleet(fleet, own, [fleet.chosen] * replicas, sim, merge_events)


def run_fleet(
    fleet: Fleet,
    own: Sequence[AdapterSettings],
    served_by: Sequence[Mapping[str, int]],
    sim: SimConfig,
    merged: Callable[[list[list[dict[str, Any]]]], list[dict[str, Any]]],
) -> Outcome:
    """Runs it, shuts its engines down whatever happens, and reads what each left. `own` are each engine's settings,
    `served_by` says for each where requests went on its side; `merged` makes one run's events of all engines'."""
    columns = [engine.scheduler.step_columns for engine in fleet.replicas]
    try:
        status = fleet.run()
    finally:
        measured: Counter[str] = Counter()
        for engine in fleet.replicas:
            measured.update(engine.scheduler.wall_clock_counters)
            engine.scheduler.shutdown()
    logs, recorded = fleet.clients.logs, [read_events(each.events_path) for each in own]
    for number, (each, events, served) in enumerate(zip(own, recorded, served_by, strict=True)):
        check_records(each, events, [log for log in logs if served.get(log.request.request_id) == number])
        if sim.check:
            check_lengths(events)
    steps = merge_steps([c.frame() for c in columns])
    return Outcome(status, logs, merged(recorded), steps, fleet.clock.now, dict(measured))
