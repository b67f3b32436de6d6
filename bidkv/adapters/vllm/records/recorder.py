"""Records what one vLLM scheduler did: why requests wait is read off vLLM's own queues and statuses after each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.v1.request import RequestStatus

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.recording.engine import Recording
from bidkv.adapters.vllm.memory.seats import all_taken, lacks_lora_slot

BY_STATUS = {
    RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR: "grammar",
    RequestStatus.WAITING_FOR_REMOTE_KVS: "load",
    RequestStatus.WAITING_FOR_STREAMING_REQ: "input",
}


@dataclass(slots=True)
class PromptWork:
    """Of one step: prompts, and what is computed again. `again` tokens are of those whom the prefix cache gave all back."""

    tokens: int = 0
    prompts: int = 0
    prompt_context: int = 0
    again: int = 0
    again_context: int = 0
    done: list[str] = field(default_factory=list)  # all that is known of these is computed then
    caught_up: list[str] = field(default_factory=list)  # these are where they were when they were preempted


NONE = PromptWork()
NOBODY: Mapping[str, str] = {}


class Recorder:
    """Owned by a scheduler; told of what happens to requests, and of each step when it is scheduled and when it ends.

    A step costs it as much as there are prompts in it and requests that were skipped: who decodes or waits in line is
    counted, not gone through. What follows from that is worked out in another thread (`Recording`).
    """

    RECOUNT = (
        256  # steps after which the tokens of who decodes are summed anew: drafts and loads take some back
    )

    def __init__(
        self,
        scheduler: Any,
        recording: Recording,
        clock: Callable[[], float],
        unknown: Callable[[], Collection[str]],
    ):
        """`unknown` names those of whom a connector could not tell yet what it has."""
        self._scheduler, self._recording, self._clock, self._unknown = scheduler, recording, clock, unknown
        self._tell, self._goes_on = recording.tell, recording.goes_on
        self._on_schedule, self._on_step = recording.on_schedule, recording.on_step
        skipped = getattr(scheduler, "deferred_waiting", None)  # 0.26 has a queue for them
        self._skipped: Collection[Any] = scheduler.skipped_waiting if skipped is None else skipped
        self._pool = scheduler.kv_cache_manager.block_pool
        self._usable: int = self._pool.num_gpu_blocks - 1  # one is vLLM's null block
        self._starting: set[str] = set()  # taken off the queue, not computed yet
        self._prompts: set[str] = set()  # not all of what is known of them is computed
        self._decoding: set[str] = set()
        self._context = 0  # their computed tokens; of those that end, still in the step that leaves them out
        self._frontiers: dict[str, int] = {}  # tokens that were computed when it was preempted, at most
        self._open: deque[tuple[Any, float, tuple[Any, ...], PromptWork]] = deque()  # steps under way
        self._until_recount = self.RECOUNT
        self._waits: tuple[str, Mapping[str, str]] = (
            "intake",
            NOBODY,
        )  # why nobody more starts, and who waits apart

    # -- requests ------------------------------------------------------------------------------

    def arrived(self, request: Any, account: RequestAccount) -> None:
        lora, state = request.lora_request, account.state
        told = (
            state.request_id, request.num_prompt_tokens, request.max_tokens, request.priority,
            lora.lora_int_id if lora else None,
        )  # fmt: skip
        session = state.session or getattr(request, "session_id", None)
        t = self._clock()
        self._tell((self._recording.on_arrival, request.request_id, account.arrival_t, t, session, told))

    def started(self, request: Any) -> None:
        """vLLM took it off the queue; or its KV begins to be loaded."""
        self._starting.add(request.request_id)

    def preempted(self, request: Any, request_id: str, t: float) -> None:
        """Before vLLM takes its blocks."""
        name, tokens = request.request_id, request.num_computed_tokens
        self._stopped(request)
        self._frontiers[name] = max(tokens, self._frontiers.get(name, 0))
        self._tell((self._recording.on_preemption, name, request_id, tokens, t))

    def awaits_input(self, request: Any) -> None:
        """A streaming session's turn is over."""
        self._stopped(request)
        cause = "input" if request.status in BY_STATUS else None
        self._tell((self._recording.on_turn, request.request_id, cause, self._clock()))

    def ended(self, request: Any, record: Mapping[str, Any]) -> None:
        """`record` is its account's."""
        self._stopped(request)
        if self._frontiers:
            self._frontiers.pop(request.request_id, None)
        self._tell((self._recording.on_end, request.request_id, record, request.block_hashes))

    def close(self) -> None:
        self._recording.close()

    def fail(self, error: Exception) -> None:
        """Something here is wrong: nothing more is recorded."""
        self._recording.fail(error)

    def decides(self, strategy: Mapping[str, Any]) -> None:
        self._recording.decides(strategy, self._clock())

    def _stopped(self, request: Any) -> None:
        name = request.request_id
        if name in self._decoding:  # as nearly always
            self._decoding.discard(name)
            self._context = self._context - request.num_computed_tokens if self._decoding else 0
        else:
            self._starting.discard(name)
            self._prompts.discard(name)

    # -- steps ---------------------------------------------------------------------------------

    def scheduled(self, output: Any, t: float, first: Any | None, held_back: bool, preempted: int) -> None:
        """A step was scheduled; it began at `t`. `first` is who is first in line and did not start, `held_back` says
        that it would have fitted."""
        if not self._goes_on():
            return
        scheduler, tokens = self._scheduler, output.num_scheduled_tokens
        begun: Collection[str] = ()
        if self._starting:
            begun = self._starting & tokens.keys()
            self._starting -= begun
            self._prompts |= begun
        total, work = output.total_num_scheduled_tokens, self._prompt_work(tokens) if self._prompts else NONE
        decoded = total - work.tokens
        context = self._context + work.prompt_context + work.again_context
        self._context += decoded - work.again
        for name in work.done:
            self._prompts.discard(name)
            self._decoding.add(name)
            self._context += scheduler.requests[name].num_computed_tokens
        running, waiting = scheduler.get_request_counts()
        cause, aside = "intake", NOBODY
        if waiting:
            skipped = self._skipped_for_their_own() if self._skipped else NOBODY
            cause = self._cause(first is not None, held_back, preempted, len(skipped))
            aside = skipped
            if first is not None:
                aside = {first.request_id: "policy" if held_back else "memory", **skipped}
        waits = cause, aside
        if begun or waits != self._waits:  # else all is as it was
            self._waits = waits
            self._tell((self._on_schedule, t, cause, aside, begun))
        if total or preempted:
            used = self._usable - self._pool.get_num_free_blocks()
            values = (
                work.tokens, decoded, work.prompts, len(tokens) - work.prompts, context, work.prompt_context, running,
                waiting, used, preempted, cause,
            )  # fmt: skip
            self._open.append((output, t, values, work))

    def processed(self, output: Any, t: float) -> None:
        """The output of a step was processed. Steps end in the order they began; those that did nothing left no trace."""
        steps = self._open
        if not (steps and steps[0][0] is output):
            if all(step[0] is not output for step in steps):
                return
            while steps[0][0] is not output:
                steps.popleft()  # the engine gave it up
        _, start, values, work = steps.popleft()
        self._tell((self._on_step, start, t, values, work.done, work.caught_up))
        self._until_recount -= 1
        if not self._until_recount:
            self._recount()

    def _prompt_work(self, tokens: Mapping[str, int]) -> PromptWork:
        """What a step computes of those of whom not all is computed that is known."""
        work, requests = PromptWork(), self._scheduler.requests
        for name in self._prompts & tokens.keys():
            request, count = requests[name], tokens[name]
            end = request.num_computed_tokens  # schedule() has added them already
            before, frontier = end - count, self._frontiers.get(name)
            if frontier is not None and before >= frontier and before >= request.num_prompt_tokens:
                work.again += count  # the cache had all that it lost: it decodes
                work.again_context += before
            else:
                work.tokens += count
                work.prompts += 1
                work.prompt_context += before
            if end >= request.num_tokens:
                work.done.append(name)
            elif frontier is not None and end >= frontier:
                work.caught_up.append(name)
        return work

    def _recount(self) -> None:
        self._until_recount = self.RECOUNT
        requests = self._scheduler.requests
        self._context = sum(requests[name].num_computed_tokens for name in self._decoding)

    # -- who waits, and why --------------------------------------------------------------------

    def _cause(self, blocked: bool, held_back: bool, preempted: int, own: int) -> str:
        """Why nobody more starts; `own` of those that are skipped have causes of their own."""
        scheduler = self._scheduler
        if preempted:
            return "memory"
        if blocked:
            return "policy" if held_back else "behind"
        if all_taken(scheduler):
            return "seat"
        if scheduler.pause_state.name != "UNPAUSED":
            return "paused"
        if own == len(self._skipped) >= len(scheduler.waiting):
            return "intake"
        return "budget"

    def _own_cause(self, request: Any) -> str | None:
        """Why vLLM skips it, whoever else there is; None if it only waits for its turn."""
        cause = BY_STATUS.get(request.status)
        if cause is not None:
            return cause
        if request.request_id in self._unknown():
            return "load"
        return "lora" if lacks_lora_slot(request, self._scheduler) else None

    def _skipped_for_their_own(self) -> dict[str, str]:
        """Who waits for something else than the line does, by what vLLM says of each that it skips."""
        causes = ((request.request_id, self._own_cause(request)) for request in self._skipped)
        return {name: cause for name, cause in causes if cause is not None}


def recorded_facts(scheduler: Any) -> dict[str, Any]:
    """What a simulation of this engine has to know beside what its records say anyway."""
    config = scheduler.vllm_config
    model = config.model_config
    return {
        "model": str(model.model),
        "max_model_len": scheduler.max_model_len,
        "max_num_batched_tokens": scheduler.max_num_scheduled_tokens,
        "hash_block_size": getattr(scheduler, "hash_block_size", scheduler.block_size),
        "tensor_parallel": config.parallel_config.tensor_parallel_size,
        "kv_groups": [type(g).__name__ for g in scheduler.kv_cache_manager.coordinator.single_type_managers],
    }
