"""Replays what a real SGLang recorded, and finds the first decision that differs.

The recording is a run with `run.log_schedule`: its events, its steps (what each one scheduled, which requests had come
before it, when, and in which rounds of SGLang's loop, how long it took) and the trace it ran. The simulated SGLang is given
the same requests in the same rounds at the same times, and must launch its steps in the same rounds, schedule the same
tokens in them, have as many tokens in use and in its radix tree, and retract the same victims.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.engines.sim.differences import (
    RecordedClock,
    Replay,
    check_alike,
    differ,
    first_difference,
    preemptions,
)
from ray_jobs.engines.sim.sglang import messages
from ray_jobs.engines.sim.sglang.adapter import VirtualAdapter
from ray_jobs.engines.sim.sglang.check import check_conservation
from ray_jobs.engines.sim.sglang.engine import SimulatedSGLang
from ray_jobs.workload.trace import Trace

STATE = ("running", "waiting", "used_blocks", "cached_free_blocks", "preempted")
"""What a step's record says of the engine beside what it scheduled."""


def replay(
    engine: SimulatedSGLang,
    trace: Trace,
    events: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    settings: AdapterSettings,
) -> Replay:
    """Runs the recording's strategy; `settings` say where the replay's own events go, and have `log_schedule`.

    Raises ValueError if the recording has no schedule or was not made on an engine like `engine`, and
    ConservationError if a round loses anything.
    """
    check_alike(events, steps, "added_rounds", _facts(engine))
    clock = RecordedClock()
    adapter = VirtualAdapter(settings, clock)
    world = RecordedWorld(engine, adapter, clock, trace, events, steps)
    engine.run(world, adapter)
    if world.difference is None:
        world.difference = first_difference(events, read_events(settings.events_path))
    return Replay(world.launches, preemptions(settings), world.difference)


class RecordedWorld:
    """The clients and the device of a recording, around SGLang's loop. After a difference it lets the loop run empty."""

    def __init__(
        self,
        engine: SimulatedSGLang,
        adapter: VirtualAdapter,
        clock: RecordedClock,
        trace: Trace,
        events: Sequence[Mapping[str, Any]],
        steps: Sequence[Mapping[str, Any]],
    ):
        self._scheduler, self._adapter, self._clock, self._steps = engine.scheduler, adapter, clock, steps
        self._requests = {request.request_id: request for request in trace.requests}
        self._arrivals = {e["id"]: e["arrival_t"] for e in events if e["type"] == "request"}
        self._coming = deque(
            (number, name, t)
            for step in steps
            for number, name, t in zip(step["added_rounds"], step["added"], step["added_t"], strict=True)
        )
        self._round = self._coming[0][0]  # of the recording's, that is under way or comes next
        self._under_way: deque[Mapping[str, Any]] = deque()
        self.launches = 0
        self.difference: str | None = None
        self._aborted = False

    def intake(self) -> Iterable[Any]:
        check_conservation(self._scheduler, self._adapter)
        if self.difference is not None:
            yield from self._give_up()
            return
        if self._coming and self._scheduler.is_fully_idle():
            self._round = max(self._round, self._coming[0][0])  # until somebody comes all rounds are alike
        due = self._steps[self.launches]["round"] if self.launches < len(self._steps) else None
        if due is not None and self._round > due:
            self.difference = differ("step", self.launches, f"launched in round {due}", "not launched")
            return
        while self._coming and self._coming[0][0] <= self._round:
            _, name, self._clock.now = self._coming.popleft()
            yield self._message(name)
        if self._round == due:
            self._clock.now = self._steps[self.launches]["t"]
        self._round += 1

    def launched(self) -> None:
        number, ours = self.launches, self._adapter.step_columns.latest
        self._under_way.append(self._steps[number] if number < len(self._steps) else {"t": 0.0, "dur": 0.0})
        self.launches += 1
        if self.difference is None:
            self.difference = self._compared(number, ours)

    def ended(self) -> None:
        self._clock.ended(self._under_way.popleft())

    def delivered(self, reqs: Sequence[Any]) -> None:
        """The recording's clients had what they had."""

    def refused(self, req: Any, reason: str) -> None:
        """Likewise."""

    def idle(self) -> bool:
        if self.difference is not None:
            return not self._scheduler.is_fully_idle()
        return self.launches < len(self._steps) or not self._scheduler.is_fully_idle()

    def _compared(self, number: int, ours: Mapping[str, Any]) -> str | None:
        if number >= len(self._steps):
            return differ("step", number, "no such step", ours["scheduled"])
        theirs = self._steps[number]
        if self._round - 1 != theirs["round"]:
            return differ(
                "step", number, f"launched in round {theirs['round']}", f"in round {self._round - 1}"
            )
        if ours["scheduled"] != theirs["scheduled"]:
            return differ("step", number, theirs["scheduled"], ours["scheduled"])
        state = [({name: step[name] for name in STATE}) for step in (theirs, ours)]
        return differ("state in step", number, *state) if state[0] != state[1] else None

    def _message(self, name: str) -> Any:
        request = self._requests[name]
        self._scheduler.tokens.add(name)
        return messages.generate(request, request_facts(request, self._arrivals[name]))

    def _give_up(self) -> Iterable[Any]:
        if not self._aborted:
            self._aborted = True
            yield from (messages.abort(name) for name in list(self._adapter.accounts))


def _facts(engine: SimulatedSGLang) -> dict[str, Any]:
    scheduler = engine.scheduler
    return {
        "engine_version": engine.version,
        "block_size": scheduler.page_size,
        "num_blocks": scheduler.token_to_kv_pool_allocator.size // scheduler.page_size,
        "max_num_seqs": scheduler.max_running_requests,
        "prefix_caching": not scheduler.tree_cache.disable,
        "scheduler": "async" if scheduler.enable_overlap else "sync",
    }
