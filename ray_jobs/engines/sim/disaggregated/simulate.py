"""One simulated run of prefill engines and decode engines, from a trace and a strategy to its records."""

from __future__ import annotations

from dataclasses import dataclass

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.config import RouterConfig
from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.disaggregated.config import DisaggregationConfig
from ray_jobs.engines.sim.disaggregated.engines import Decode, Prefill, with_connector
from ray_jobs.engines.sim.disaggregated.fleet import DisaggregatedFleet
from ray_jobs.engines.sim.disaggregated.records import merge_sides
from ray_jobs.engines.sim.disaggregated.transfers import Held, Pulls, engine_ids
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.replica import Desk
from ray_jobs.engines.sim.simulate import make_simulation
from ray_jobs.engines.sim.simulate_fleet import run_fleet
from ray_jobs.workload.trace import Trace


@dataclass(frozen=True)
class Sides:
    """What the engines of each side are made of."""

    prefill: SchedulerParts
    decode: SchedulerParts


def simulate_disaggregated(
    sides: Sides,
    sim: SimConfig,
    trace: Trace,
    settings: AdapterSettings,
    how: DisaggregationConfig,
    router: RouterConfig,
    request_timeout_s: float = 1e9,
    run_timeout_s: float = 1e9,
) -> Outcome:
    """Runs `trace` on `how.prefill` and `how.decode` engines, each with a strategy and a file of events of its own.

    Records are those of `simulate_fleet`, `replica` counts the prefill engines first; see `merge_sides`. Raises as
    `simulate` does.
    """
    clients = VirtualClients(trace, request_timeout_s)
    names = [*engine_ids("prefill", how.prefill), *engine_ids("decode", how.decode)]
    own = [settings.of_rank(name) for name in names]
    held = {name: Held() for name in names[: how.prefill]}
    seconds_per_block = sides.decode.block_bytes / (1e9 * how.gb_s)
    pulls = [Pulls(held, seconds_per_block) for _ in range(how.decode)]
    prefill, decode = (
        [
            make_simulation(
                kind, with_connector(parts, role, name), sim, Desk(clients), each.to_dict(), run_timeout_s, transfers,
            )
            for name, each, transfers in zip(names[part], own[part], workers, strict=True)
        ]
        for kind, parts, role, part, workers in (
            (Prefill, sides.prefill, "kv_producer", slice(how.prefill), held.values()),
            (Decode, sides.decode, "kv_consumer", slice(how.prefill, None), pulls),
        )
    )  # fmt: skip
    rules = (
        router.make(how.prefill, prefill[0].scheduler.pool_tokens, settings.seed),
        router.make(how.decode, decode[0].scheduler.pool_tokens, settings.seed + 1),
    )
    fleet = DisaggregatedFleet(
        prefill, decode, pulls, clients, rules, router.stale_s, run_timeout_s, sim.wall_timeout_s
    )
    served_by = [fleet.chosen] * how.prefill + [fleet.decodes] * how.decode
    return run_fleet(fleet, own, served_by, sim, lambda recorded: merge_sides(recorded, how.prefill))
