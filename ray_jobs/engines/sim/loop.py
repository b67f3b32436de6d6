"""vLLM's engine loop on virtual time: arrivals, steps, outputs, aborts."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus

from ray_jobs.engines.shared.base import request_facts
from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.engines.sim.build import SchedulerParts, make_request
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.clock import VirtualClock, too_slow
from ray_jobs.engines.sim.prefix_hashes import PrefixHashes
from ray_jobs.engines.sim.roofline import StepTimeModel
from ray_jobs.engines.sim.sampling import Sampler
from ray_jobs.engines.sim.scheduler import VirtualSchedulerMixin
from ray_jobs.engines.sim.scheduling import EngineThread, SchedulingCost

Check = Callable[[VirtualSchedulerMixin], None]


def drive(turn: Callable[[], bool], clock: VirtualClock, wall_timeout_s: float) -> None:
    """Takes turns until one says that it was the last. Raises TimeoutError after `wall_timeout_s` real seconds."""
    wall_deadline = time.monotonic() + wall_timeout_s
    gc.collect()
    gc.disable()  # nothing here makes cycles as it goes, and full collections would cost a third of the time
    try:
        while turn():
            if time.monotonic() > wall_deadline:
                raise too_slow(wall_timeout_s, clock)
    finally:
        gc.enable()


class Transfers(Protocol):
    """What the workers of a KV connector do, such as `HostMemory`."""

    @property
    def busy(self) -> bool:
        """Whether something is under way."""

    def next_end(self) -> float | None:
        """When the next transfer ends; None if there is none."""

    def begin_step(self, metadata: Any, t: float) -> float:
        """Starts what a step asks for that could begin at `t`; returns when it may."""

    def end_step(self, t: float) -> Any:
        """What has ended by `t` and was not reported yet, as vLLM's `KVConnectorOutput`, or None."""


class Simulation:
    """One run. Calls the scheduler in the order that vLLM's EngineCore does.

    With async scheduling one step is scheduled while another one runs (EngineCore's batch queue of
    two); else a step is scheduled when the one before it is done. `clock` is the time of the thread that
    schedules: it moves on where what a strategy looks at takes longer than the step in flight hides.
    """

    def __init__(
        self,
        parts: SchedulerParts,
        scheduler: VirtualSchedulerMixin,
        clients: VirtualClients,
        model: StepTimeModel,
        clock: VirtualClock,
        run_timeout_s: float,
        wall_timeout_s: float,
        check: Check | None = None,
        host: Transfers | None = None,
        scheduling: SchedulingCost | None = None,
        hashes: PrefixHashes | None = None,
    ):
        self.parts, self.scheduler, self.clients, self.model, self.clock = (
            parts,
            scheduler,
            clients,
            model,
            clock,
        )
        self.run_timeout_s, self.wall_timeout_s, self.check = run_timeout_s, wall_timeout_s, check
        self._depth = parts.vllm_config.max_concurrent_batches
        self._batches: deque[tuple[Any, ModelRunnerOutput, float]] = deque()
        self._device_free_t = 0.0
        self._sampler = Sampler(scheduler, parts)
        self._host = host
        self._hashes = hashes
        self._thread = EngineThread(scheduling) if scheduling is not None else None

    def run(self) -> str:
        """Until all is answered: "finished"; or "timeout" if the run's virtual deadline passes first.

        Raises TimeoutError after `wall_timeout_s` real seconds.
        """
        drive(self._turn, self.clock, self.wall_timeout_s)
        status = "timeout" if self.clients.live or self.clients.next_send() is not None else "finished"
        for request_id in self.clients.hang_up():
            self._abort(request_id)
        return status

    def _turn(self) -> bool:
        """One pass of the engine's loop; False when the run is over."""
        if self._host is not None and not self.clients.live and self.clients.next_send() is None:
            return False  # what is still being stored is of no use to anyone
        if self._begin():
            return True
        if not self._batches:
            return self._wait_until(self.clients.next_send())
        return self._finish()

    def _begin(self) -> bool:
        """Takes in who was sent, and schedules a step if there is any; True if the next may be scheduled at once."""
        for log in self.clients.send(self.clock.now):
            self.scheduler.add_request(self._request(log))
        return self.scheduler.has_requests() and self._schedule()

    def _finish(self) -> bool:
        """Waits for the output of the oldest step in flight and processes it; False when the run is over."""
        clock, scheduler = self.clock, self.scheduler
        output, sampled, end = self._batches.pop()
        if max(end, clock.now) > self.run_timeout_s:
            clock.now = self.run_timeout_s
            return False
        clock.now = max(clock.now, end)
        self._abort_late()
        outputs = scheduler.update_from_output(output, sampled)
        self.clients.receive_one_each(scheduler.plain_outputs, clock.now)
        for batch in outputs.values():
            for item in batch.outputs:
                self._deliver(item)
        if self.check is not None:
            self.check(scheduler)
        idle = not any(  # a load that ended and blocks that were freed make room, too
            batch.num_scheduled_tokens or batch.preempted_req_ids or result.kv_connector_output
            for batch, result, *_ in (*self._batches, (output, sampled))
        )
        waits = scheduler.has_unfinished_requests() or (self._host is not None and self._host.busy)
        return self._wait_for_room() if idle and waits else True

    def _schedule(self) -> bool:
        """Schedules a step; True if the next may be scheduled before this one's output is there."""
        scheduler = self.scheduler
        output = scheduler.schedule()
        executed = bool(output.num_scheduled_tokens)
        if self._thread is not None:
            self._charge(len(output.num_scheduled_tokens))
        start = max(self.clock.now, self._device_free_t)
        if self._host is not None:
            start = self._host.begin_step(output.kv_connector_metadata, start)
        self._device_free_t = start + self.model.seconds(scheduler.step_columns.latest)
        sampled = self._sampler.sample(output)
        if self._host is not None:
            sampled.kv_connector_output = self._host.end_step(self._device_free_t)
        self._batches.appendleft((output, sampled, self._device_free_t))
        if self.check is not None:
            self.check(scheduler)
        return len(self._batches) < self._depth and (executed or scheduler.has_requests())

    def _charge(self, scheduled: int) -> None:
        """The time that scheduling took just now."""
        busy_until = max(self.clock.now, self._device_free_t)
        counts = self.scheduler.scheduling_counts(scheduled)
        seconds, delay = self._thread.schedule(counts, self.clock.now, busy_until)
        self.scheduler.step_columns.charge(seconds, delay)
        if delay:
            self.clock.now = busy_until + delay

    def _request(self, log: RequestLog) -> Any:
        request = log.request
        self._sampler.add(request.request_id)
        made = make_request(
            self.parts,
            request.request_id,
            request.prompt_token_ids.tolist(),
            known=self._hashes.known(request) if self._hashes is not None else (),
            max_tokens=request.output_tokens,
            arrival_time=log.sent_t,
            priority=request.priority,
            declared=request_facts(request, log.sent_t, self.clients.pauses.get(request.request_id)),
        )
        if self._hashes is not None:
            self._hashes.remember(request, made.block_hashes[:])
        return made

    def _deliver(self, item: Any) -> None:
        finished = item.finish_reason is not None
        self.clients.receive(item.request_id, len(item.new_token_ids), finished, self.clock.now)
        if finished:
            self._sampler.remove(item.request_id)

    def _abort_late(self) -> None:
        for request_id in self.clients.give_up(self.clock.now):
            self._abort(request_id)

    def _abort(self, request_id: str) -> None:
        # One at a time: vLLM puts several ids in a set, whose order differs from process to process.
        self.scheduler.finish_requests(request_id, RequestStatus.FINISHED_ABORTED)
        self._sampler.remove(request_id)

    def _wait_for_room(self) -> bool:
        """Nothing that waits fits, nothing runs: only an arrival, a timeout or a load's end changes that."""
        times = [self.clients.next_send(), self.clients.next_deadline()]
        if self._host is not None:
            times.append(self._host.next_end())
        if not self._wait_until(min(t for t in times if t is not None)):
            return False
        self._abort_late()
        return True

    def _wait_until(self, t: float | None) -> bool:
        if t is None or t > self.run_timeout_s:
            self.clock.now = self.clock.now if t is None else self.run_timeout_s
            return False
        self.clock.now = max(self.clock.now, t)
        return True
