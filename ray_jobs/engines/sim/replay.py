"""Replays what a real engine recorded, and finds the first decision that differs.

The recording is a run with `run.log_schedule`: its events, its steps (what each one scheduled, which
requests had been added before it and when, how long it took) and the trace it ran. The simulated scheduler is
given the same requests before the same steps at the same times, and must schedule the same tokens,
preempt the same victims for the same requesters, and move the same blocks to and from host memory. When
such a transfer ended is the recording's word, and so is how many a step looked at until that took too long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from vllm.v1.outputs import KVConnectorOutput

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.vllm.records.transfers import started_transfers
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.engines.sim.build import SchedulerParts, make_request
from ray_jobs.engines.sim.differences import (
    RecordedClock,
    Replay,
    check_alike,
    differ,
    first_difference,
    preemptions,
)
from ray_jobs.engines.sim.offload import worker_report
from ray_jobs.engines.sim.sampling import Sampler
from ray_jobs.engines.sim.scheduler import VirtualSchedulerMixin, make_scheduler
from ray_jobs.workload.trace import Trace


def replay(
    parts: SchedulerParts,
    trace: Trace,
    events: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    settings: AdapterSettings,
    shortcuts: bool = True,
) -> Replay:
    """Runs the recording's strategy; `settings` say where the replay's own events go.

    Raises ValueError if the recording has no schedule or was not made on engines like `parts`.
    """
    clock = RecordedClock()
    offloads = parts.vllm_config.kv_transfer_config is not None
    scheduler = make_scheduler(parts, settings.to_dict(), clock, shortcuts and not offloads)
    transfers = Transfers() if offloads else None
    arrivals = {e["id"]: e["arrival_t"] for e in events if e["type"] == "request"}
    requests = {request.request_id: request for request in trace.requests}
    sampler = Sampler(scheduler, parts)
    batches: deque[Any] = deque()
    try:
        check_alike(events, steps, "processed", _facts(parts, scheduler))
        for number, step in enumerate(steps):
            while len(batches) > number - step["processed"]:
                _finish(batches, scheduler, clock, transfers)
            for request_id, clock.now in zip(step["added"], step["added_t"], strict=True):
                sampler.add(request_id)
                scheduler.add_request(_request(parts, requests[request_id], arrivals[request_id]))
            clock.now = step["t"]
            scheduler.looks_at_most(step["looked_at"])
            output = scheduler.schedule()
            if dict(output.num_scheduled_tokens) != step["scheduled"]:
                return Replay(
                    number,
                    preemptions(settings),
                    differ("step", number, step["scheduled"], output.num_scheduled_tokens),
                )
            if transfers and (difference := transfers.started(step, output)):
                return Replay(number, preemptions(settings), difference)
            batches.append((output, sampler.sample(output), step))
        while batches:
            _finish(batches, scheduler, clock, transfers)
    finally:
        scheduler.shutdown()
    replayed = read_events(settings.events_path)
    return Replay(len(steps), preemptions(settings), first_difference(events, replayed))


class Transfers:
    """The recording's transfers as the replay's: the same ones under job numbers that count from another start."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def started(self, step: Mapping[str, Any], output: Any) -> str | None:
        """Pairs the transfers that one step starts; the first difference in words."""
        names = ("load", "request", "blocks")
        ours, theirs = started_transfers(output), list(step["kv_started"])
        for one, other in zip_longest(theirs, ours):
            if one is None or other is None or any(one[name] != other[name] for name in names):
                return differ(f"transfer of step {step['step']}", len(self._numbers), one, other)
            self._numbers[one["job"]] = other["job"]
        return None

    def ended(self, step: Mapping[str, Any]) -> KVConnectorOutput | None:
        """What the recorded worker said after a step; jobs of an earlier run are none of this one's."""
        ended = [self._numbers[job] for job in step["kv_ended"] if job in self._numbers]
        return worker_report(ended, step["kv_loaded"]) if ended else None


def _finish(batches: deque[Any], scheduler: Any, clock: RecordedClock, transfers: Transfers | None) -> None:
    output, sampled, step = batches.popleft()
    clock.ended(step)
    if transfers:
        sampled.kv_connector_output = transfers.ended(step)
    scheduler.update_from_output(output, sampled)


def _request(parts: SchedulerParts, request: Any, arrival_t: float) -> Any:
    return make_request(
        parts,
        request.request_id,
        request.prompt_token_ids.tolist(),
        max_tokens=request.output_tokens,
        arrival_time=arrival_t,
        priority=request.priority,
        declared=request_facts(request, arrival_t),
    )


def _facts(parts: SchedulerParts, scheduler: VirtualSchedulerMixin) -> dict[str, Any]:
    config = parts.vllm_config
    return {
        "block_size": scheduler.block_tokens,
        "num_blocks": parts.kv_cache_config.num_blocks - 1,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "prefix_caching": bool(config.cache_config.enable_prefix_caching),
        "scheduler": "async" if config.scheduler_config.async_scheduling else "sync",
    }
