"""Random loads on SGLang's real scheduler, with what must hold of each: see `check`."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooks import Hooks
from real_scheduler import RealScheduler, most_overtaken, started
from recordings import check_sums
from sglang.srt.managers import schedule_policy

from bidkv.adapters.shared.control import ControlFile, write_control
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.admission.backfill import Backfill
from bidkv.admission.engine_order import EngineOrder
from bidkv.admission.fcfs import Fcfs
from bidkv.registry import create_default_registry

ENGINES: tuple[dict[str, Any], ...] = (
    {"page_size": 1, "chunked_prefill_size": 256},
    {"page_size": 1, "chunked_prefill_size": 64, "disable_overlap_schedule": True},
    {"page_size": 4, "chunked_prefill_size": 48, "enable_mixed_chunk": True},
    {"page_size": 16, "chunked_prefill_size": 128},
    {
        "page_size": 16,
        "chunked_prefill_size": 64,
        "enable_mixed_chunk": True,
        "disable_overlap_schedule": True,
    },
    {"page_size": 1, "chunked_prefill_size": -1, "disable_radix_cache": True},
    {"page_size": 4, "chunked_prefill_size": -1, "disable_overlap_schedule": True},
    {"page_size": 1, "chunked_prefill_size": 256, "max_queued_requests": 12},
    {"page_size": 1, "chunked_prefill_size": 96, "enable_priority_scheduling": True},
    {"page_size": 1, "chunked_prefill_size": 128, "schedule_policy": "lpm"},
)
"""SGLang's arguments. Creating a scheduler takes longer than a load, so one of these serves many."""

POOL, SEATS = 640, 12
OWN_ORDER = ("enable_priority_scheduling", "schedule_policy")
"""Arguments under which only strategies that leave the order to SGLang are taken."""


@dataclass
class Load:
    """Requests by round of arrival, aborts by round, changes of settings by round."""

    requests: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    aborts: dict[int, list[str]] = field(default_factory=dict)
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)


def strategies(engine: dict[str, Any]) -> list[str]:
    registry = create_default_registry()
    names = [name for name in registry.list_strategies() if not registry.get(name).needs_cache]
    if any(flag in engine for flag in OWN_ORDER):
        names = [name for name in names if isinstance(registry.get(name).admission, EngineOrder)]
    return names


def make_load(seed: int, engine: dict[str, Any], calm: bool) -> Load:
    """A load drawn from `seed`; a `calm` one never fills the memory, and nothing else happens in it."""
    draw = random.Random(seed)
    load = Load()
    if calm:
        for i in range(draw.randint(2, 7)):
            prompt = [draw.randrange(3, 512) for _ in range(draw.randint(2, 30))]
            request = {"rid": f"{seed}-{i:03}", "prompt": prompt, "output": draw.randint(1, 8)}
            load.requests.append((draw.randint(1, 12), request))
        load.requests.sort(key=lambda entry: entry[0])
        return load
    families = [[draw.randrange(3, 512) for _ in range(96)] for _ in range(3)]
    at = 1
    for i in range(draw.randint(10, 45)):
        at += draw.choice((0, 0, 0, 1, 2, 9))
        shared = draw.choice(families)[: draw.choice((0, 0, 16, 33, 96))]
        own = draw.randint(2, draw.choice((30, 120, 380)))
        prompt = [*shared, *(draw.randrange(3, 512) for _ in range(own))]
        output = draw.randint(1, draw.choice((10, 60, 150)))
        facts: dict[str, Any] = {}
        if draw.random() < 0.5:
            facts["true_output_tokens"] = draw.randint(1, output)
        if draw.random() < 0.1:
            facts["ignore_eos"] = True
        priority = draw.randint(-2, 30) if "enable_priority_scheduling" in engine else None
        request = {"rid": f"{seed}-{i:03}", "prompt": prompt, "output": output, "priority": priority, **facts}
        load.requests.append((at, request))
    for _, request in load.requests:
        if draw.random() < 0.1:
            load.aborts.setdefault(draw.randint(2, at + 60), []).append(request["rid"])
    for _ in range(draw.choice((0, 0, 1, 3))):
        if draw.random() < 0.5:
            load.changes[draw.randint(2, at + 60)] = {"kill_switch": draw.random() < 0.5}
        else:
            load.changes[draw.randint(2, at + 60)] = {"strategy": draw.choice(strategies(engine))}
    return load


def drive(scheduler: RealScheduler, load: Load, control: Path | None) -> None:
    """Runs a load to its end."""
    arrivals: dict[int, list[Any]] = {}
    for at, request in load.requests:
        arrivals.setdefault(at, []).append(scheduler.request(**request))
    rest = dict(load.aborts)

    def before(number: int) -> Sequence[Any]:
        if number in load.changes and control is not None:
            write_control(control, load.changes[number])
        return [*arrivals.pop(number, ()), *(scheduler.abort(rid) for rid in rest.pop(number, ()))]

    scheduler.run(before, lambda: bool(arrivals))


def in_order_of_arrival(strategy: str) -> bool:
    """Whether a strategy admits as SGLang does where memory is not what is lacking."""
    admission = create_default_registry().get(strategy).admission
    return type(admission).key in (Fcfs.key, Backfill.key, EngineOrder.key) and not admission.resorts


def check(scheduler: RealScheduler, adapter: Any, load: Load, folder: Path) -> None:
    """Runs a load and raises `AssertionError` unless all of this holds: everything ends with its output
    or its abort; nobody was overtaken more often than the policy says, where one policy rules all the time; nothing is
    kept of any request; requests, tokens and retractions add up to SGLang's own.
    """
    control = folder / "control.json"
    control.unlink(missing_ok=True)
    adapter._ranks._control = ControlFile(control)
    settings = adapter._session.settings
    limit = adapter._session.strategy.admission.max_overtaken
    drive(scheduler, load, control)
    adapter.close()
    assert not any(scheduler.leftovers().values()), scheduler.leftovers()
    assert not adapter._accounts and not len(adapter._places) and adapter._places.kept == 0, vars(
        adapter._places
    )
    _check_outputs(scheduler, load)
    if limit is not None and not load.changes:
        assert most_overtaken(scheduler.history) <= limit, (most_overtaken(scheduler.history), limit)
    _check_counters(scheduler, settings)
    scheduler.reset()


def ran_out_in_a_chunk(scheduler: RealScheduler, error: RuntimeError) -> bool:
    """Whether SGLang found no memory for the rest of a prompt. It keeps none for the chunks to come, and expects 8 tokens of
    each that decodes meanwhile, here; whoever admitted the prompt could not know better."""
    batch = scheduler.last_batch
    return "out of memory" in str(error).lower() and batch is not None and batch.chunked_req is not None


def _check_outputs(scheduler: RealScheduler, load: Load) -> None:
    aborted = {rid for rids in load.aborts.values() for rid in rids}
    for _, request in load.requests:
        rid, length = request["rid"], request.get("true_output_tokens", request["output"])
        length = min(length, scheduler.allowed.get(rid, length))
        tokens = scheduler.outputs.get(rid)
        if tokens is None or len(tokens) != length:
            assert rid in aborted or rid in scheduler.aborted, (
                f"{rid}: {tokens} of {length}, {scheduler.reasons.get(rid)}"
            )


def _check_counters(scheduler: RealScheduler, settings: AdapterSettings) -> None:
    events = read_events(settings.events_path)
    requests = [event for event in events if event["type"] == "request"]
    retracted = sum(event["preemptions"] for event in requests)
    if not any(event["type"] == "run_end" for event in events[:-1]):  # one run from beginning to end
        assert retracted == sum(event["type"] == "preempt" for event in events) == scheduler.retracted
        executed = sum(event["executed"] + event["overrun"] for event in requests)
        assert executed == sum(tokens for step in scheduler.steps for _, tokens in step)
        assert {event["id"] for event in requests} >= set(started(scheduler))
    for event in requests:
        if event["reason"] in ("length", "stop"):
            expected = event["prompt"] + event["output"] - 1 + event["recomputed"] - event["cached"]
            assert event["executed"] == expected, event
    assert not any(event["type"] in ("strategy_error", "control_error") for event in events), events


def _check_recording(record: Path, settings: AdapterSettings) -> None:
    """It has every request that the events have, with the same counts, and all its seconds."""
    events = [event for event in read_events(settings.events_path) if event["type"] == "request"]
    recorded = check_sums(record)
    same = ("prompt", "output", "preemptions", "executed", "cached", "reason")
    assert {event["id"]: [event[key] for key in same] for event in events} == {
        name: [request[key] for key in same] for name, request in recorded.items()
    }


class Fuzz:
    """One configuration of SGLang, and cases on it. A case is a calm load, whose schedule must be stock's, and a hard one.

    A context manager: inside, SGLang's classes are hooked as its plugin loader would.
    """

    def __init__(self, model: Path, engine: int, folder: Path):
        self._model, self._folder = model, folder
        self._engine = ENGINES[engine]
        self._names = strategies(self._engine)
        self.runs = self.equal = self.retracted = self.overtaken = self.overcommitted = 0

    def __enter__(self) -> Fuzz:
        self._clip = schedule_policy.CLIP_MAX_NEW_TOKENS
        schedule_policy.CLIP_MAX_NEW_TOKENS = 8  # else so much is reserved that nothing is ever retracted
        self._hooks = Hooks()
        self.renew()
        return self

    def __exit__(self, *_: Any) -> None:
        self._hooks.remove()
        schedule_policy.CLIP_MAX_NEW_TOKENS = self._clip

    def renew(self) -> None:
        """Another scheduler: the last case left this one in the middle."""
        self._hooks.remove()
        self.scheduler = RealScheduler(
            self._model, max_total_tokens=POOL, max_running_requests=SEATS, **self._engine
        )

    def case(self, seed: int) -> None:
        """Raises `AssertionError` where something does not hold."""
        draw = random.Random(seed)
        strategy = draw.choice(self._names)
        calm, hard = make_load(seed, self._engine, True), make_load(seed, self._engine, False)
        self._hooks.remove()
        drive(self.scheduler, calm, None)
        expected, outputs = self.scheduler.steps, self.scheduler.outputs
        self.scheduler.reset()
        for name, load in (("calm", calm), ("hard", hard)):
            path = self._folder / f"{name}.jsonl"
            path.unlink(missing_ok=True)
            settings = AdapterSettings(strategy, events_path=str(path), client_facts=True)
            record = self._folder / "record"
            shutil.rmtree(record, ignore_errors=True)
            adapter = self._hooks.install(self.scheduler, settings, record)
            try:
                check(self.scheduler, adapter, load, self._folder)
            except RuntimeError as error:
                if not ran_out_in_a_chunk(self.scheduler, error):
                    raise
                self.overcommitted += 1
                self.renew()
                return
            _check_recording(record, settings)
            self.runs += 1
            if load is calm and in_order_of_arrival(strategy):
                assert self.scheduler.steps == expected, strategy
                assert self.scheduler.outputs == outputs
                self.equal += 1
        self.retracted += self.scheduler.retracted
        self.overtaken += most_overtaken(self.scheduler.history)

    def summary(self) -> str:
        """What the cases had in them."""
        return f"{self.equal} of {self.runs} schedules held against stock's, {self.retracted} retractions, {self.overtaken} overtakings at most, {self.overcommitted} ended by SGLang's own count"
