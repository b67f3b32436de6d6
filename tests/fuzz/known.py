"""Faults of vLLM's own that random loads run into, recognised as they happen. Stock vLLM has each (test_known.py).

What comes of one says nothing of bidkv, and only that is left out: a case with another failure has failed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllm.v1.request import Request, RequestStatus

from fuzz.cases import Engine

CRASHES: tuple[tuple[str, Callable[[Engine], bool], str], ...] = (
    (
        "assert len(scheduled_loras) <= self.lora_config.max_loras",
        lambda engine: engine.loras > 0,
        "a LoRA slot is taken twice (until 0.33)",
    ),
    (
        "assert num_new_tokens > 0",
        lambda engine: engine.spec > 0 or engine.asynchronous,
        "a session's next input comes while drafts are in flight",
    ),
    (
        'raise ValueError(f"Cannot get {num_blocks} free blocks from the pool")',
        lambda engine: engine.layout == "mamba-align" and engine.connector == "sync",
        "more Mamba blocks are taken than were asked for, where a connector has part of a prompt",
    ),
)
"""The line that raises, in which engines, and why."""


LOST = ("no_exception: StuckError",)
DISCARDS = "async_tokens_to_discard"  # of vLLM 0.26
NEGATIVE = ("no_exception: AssertionError:  (core/sched/async_scheduler.py:",)
TWICE = ("seen_on_the_way: queue_lengths", "no_exception: RuntimeError: Invalid request status")


@dataclass(frozen=True)
class Fault:
    """What happened, and how what oracles then find begins: `ORACLE: TEXT`."""

    reason: str
    symptoms: tuple[str, ...]

    def explains(self, found: str) -> bool:
        return found.startswith(self.symptoms)


def crash(error: BaseException, engine: Engine) -> str | None:
    """Why vLLM itself raised; None where that is not known of it."""
    line = failed_line(error)
    return next((why for raises, where, why in CRASHES if raises == line and where(engine)), None)


def failed_line(error: BaseException) -> str:
    """The source of the line that raised."""
    return traceback.extract_tb(error.__traceback__)[-1].line or ""


def watch(bench: Any) -> list[Fault]:
    """A list that grows while the bench steps."""
    faults: list[Fault] = []
    watch_sessions(bench.scheduler, faults)
    watch_resets(bench, faults)
    watch_loads(bench, faults)
    return faults


def watch_sessions(scheduler: Any, faults: list[Fault]) -> None:
    """A session's turn ends by a step that was in flight when the session was preempted, or had stopped already: vLLM
    drops it from its queues, or has it there twice."""
    take = scheduler._update_request_with_output

    def taken(request: Request, *args: Any, **kwargs: Any) -> Any:
        before = request.status
        new_tokens, stopped = take(request, *args, **kwargs)
        if stopped and request.resumable and before != RequestStatus.RUNNING:
            faults.append(Fault(f"a session's turn ends while it is {before.name}", (*LOST, *TWICE)))
        return new_tokens, stopped

    scheduler._update_request_with_output = taken


def standstill(scheduler: Any) -> list[Fault]:
    """In vLLM 0.26 a first one for whom there is no memory keeps those behind it from running that have theirs, loaded or
    from a session's last turn, and will not give it back. Later ones look at those first."""
    if not hasattr(scheduler, "skipped_waiting") or scheduler.running:
        return []
    line = [*scheduler.skipped_waiting, *scheduler.waiting]
    if not any(request.num_computed_tokens for request in line[1:]) or line[0].num_computed_tokens:
        return []
    return [Fault("who holds KV waits behind one that finds no memory", LOST)]


def watch_resets(bench: Any, faults: list[Fault]) -> None:
    """vLLM 0.26 drops as many of a request's next answers as it waited for tokens at the last reset: not as many as there
    are on their way, with drafts or after two resets."""
    scheduler = bench.scheduler
    reset = scheduler.reset_prefix_cache

    def was_reset(*args: Any, **kwargs: Any) -> Any:
        ran = [*scheduler.running]
        try:
            return reset(*args, **kwargs)
        finally:
            for request in ran:
                name = request.request_id
                flying = sum(answers(result, name) for _, result in bench.in_flight)
                if request not in scheduler.running and getattr(request, DISCARDS, flying) != flying:
                    symptoms = (*LOST, *NEGATIVE, f"outputs: {name} ")
                    faults.append(Fault("a reset drops too many answers, or too few", symptoms))

    scheduler.reset_prefix_cache = was_reset


def answers(result: Any, name: str) -> bool:
    """Whether a step that is in flight has a token for that request."""
    return name in result.req_id_to_index and bool(result.sampled_token_ids[result.req_id_to_index[name]])


def watch_loads(bench: Any, faults: list[Fault]) -> None:
    """A load that a step waits for fails, and a later step with a token of a request that has its blocks is in flight:
    vLLM computes the prompt again, and takes that token, too."""
    handle = bench.scheduler._handle_invalid_blocks

    def handled(*args: Any, **kwargs: Any) -> set[str]:
        affected = handle(*args, **kwargs)
        for _, later in bench.in_flight:
            for name in affected:
                if answers(later, name):
                    faults.append(Fault("a load fails under a step in flight", (f"outputs: {name} ",)))
        return affected

    bench.scheduler._handle_invalid_blocks = handled
