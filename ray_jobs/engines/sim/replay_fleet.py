"""Replays what several real engines behind a router recorded: who was sent where, and what each engine decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.base import Known, Router
from ray_jobs.engines.routers.config import RouterConfig
from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.differences import Replay
from ray_jobs.engines.sim.replay import replay
from ray_jobs.workload.trace import Trace
from tracking.errors import require


@dataclass(frozen=True)
class Choice:
    """What a router decided, in the order in which it did: what it knew, and the replica. `t` in seconds of the run."""

    request_id: str
    t: float
    known: list[Known]
    replica: int


@dataclass(frozen=True)
class FleetReplay:
    """How far the simulated fleet did what the real one had done."""

    replicas: list[Replay]
    difference: str | None  # the first one, in words; None if there is none


def replay_fleet(
    parts: SchedulerParts,
    trace: Trace,
    events: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    choices: Sequence[Choice],
    router: RouterConfig,
    settings: AdapterSettings,
) -> FleetReplay:
    """`events` and `steps` name their `replica`. The router, made anew, must choose the same from what it knew; each engine
    must get what it was sent and decide the same, step by step.

    Raises ValueError as `replay` does, and with a router that hears news: no recording has them.
    """
    require(
        not router.rule.hears,
        "engine.router.name",
        router.name,
        "one that hears no news, which are not recorded",
    )
    start, *between, end = events
    count = start["replicas"]
    rule = router.make(count, start["num_blocks"] * start["block_size"], settings.seed)
    difference = _rerouted(trace, choices, rule)
    replays = []
    for number in range(count):
        its_steps = [step for step in steps if step["replica"] == number]
        its_events = [start, *(event for event in between if event["replica"] == number), end]
        difference = difference or _arrived(number, choices, its_steps)
        done = replay(parts, trace, its_events, its_steps, settings.of_rank(f"replica{number}"))
        difference = difference or (done.difference and f"replica {number}: {done.difference}")
        replays.append(done)
    return FleetReplay(replays, difference)


def _rerouted(trace: Trace, choices: Sequence[Choice], rule: Router) -> str | None:
    requests = {request.request_id: request for request in trace.requests}
    for number, choice in enumerate(choices):
        replica = rule.choose(requests[choice.request_id], choice.known, choice.t)
        if replica != choice.replica:
            return f"choice {number}: {choice.request_id} was sent to {choice.replica}, the replay's to {replica}"
    return None


def _arrived(number: int, choices: Sequence[Choice], steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Requests of one process reach one engine in the order in which they were sent."""
    sent = [choice.request_id for choice in choices if choice.replica == number]
    added = [name for step in steps for name in step["added"]]
    return None if added == sent else f"replica {number}: {sent} were sent, {added} arrived"
