"""Records what one vLLM scheduler did: why requests wait is read off vLLM's own queues and statuses after each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.v1.request import RequestStatus

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.recording.engine import Recording

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


class Recorder:
    """Owned by a scheduler; told of what happens to requests, and of each step when it is scheduled and when it ends.

    A step costs it as much as there are prompts in it and requests that were skipped: who decodes or waits in line is
    counted, not gone through.
    """

    RECOUNT = 256  # steps after which the tokens of who decodes are summed anew: drafts and loads take some back

    def __init__(
        self,
        scheduler: Any,
        recording: Recording,
        clock: Callable[[], float],
        unknown: Callable[[], Collection[str]],
    ):
        """`unknown` names those of whom a connector could not tell yet what it has."""
        self._scheduler, self._recording, self._clock, self._unknown = scheduler, recording, clock, unknown
        self._lives, self._queue = recording.lives, recording.queue
        skipped = getattr(scheduler, "deferred_waiting", None)  # 0.26 has a queue for them
        self._skipped: Collection[Any] = scheduler.skipped_waiting if skipped is None else skipped
        self._pool = scheduler.kv_cache_manager.block_pool
        self._usable: int = self._pool.num_gpu_blocks - 1  # one is vLLM's null block
        self._seats: int = getattr(scheduler, "max_num_active_reqs", scheduler.max_num_running_reqs)
        self._starting: set[str] = set()  # taken off the queue, not computed yet
        self._prompts: set[str] = set()  # not all of what is known of them is computed
        self._aside: dict[str, str] = {}  # who waits for a cause of its own
        self._open: deque[tuple[Any, float, tuple[Any, ...], PromptWork]] = deque()  # steps under way
        self._decoding: set[str] = set()
        self._context = 0  # their computed tokens; of those that end, still in the step that leaves them out
        self._until_recount = self.RECOUNT

    # -- requests ------------------------------------------------------------------------------

    def arrived(self, request: Any, account: RequestAccount) -> None:
        if not self._recording.stopped:
            session = account.state.session or getattr(request, "session_id", None)
            name, given = request.request_id, account.state.request_id
            self._recording.arrived(name, given, session, request, self._clock())

    def started(self, request: Any) -> None:
        """vLLM took it off the queue; or its KV begins to be loaded."""
        self._starting.add(request.request_id)

    def preempted(self, request: Any, request_id: str, t: float) -> None:
        """Before vLLM takes its blocks."""
        self._stopped(request)
        self._recording.preempted(request.request_id, request_id, request.num_computed_tokens, t)

    def awaits_input(self, request: Any) -> None:
        """A streaming session's turn is over."""
        self._stopped(request)
        life = self._lives.get(request.request_id)
        if life is not None:
            life.turn("input" if request.status in BY_STATUS else None, self._clock())

    def ended(self, request: Any, record: Mapping[str, Any]) -> None:
        """`record` is its account's."""
        self._stopped(request)
        self._recording.ended(request.request_id, record, request.block_hashes)

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
            self._context -= request.num_computed_tokens
            return
        self._starting.discard(name)
        self._prompts.discard(name)
        self._aside.pop(name, None)

    # -- steps ---------------------------------------------------------------------------------

    def scheduled(self, output: Any, t: float, first: Any | None, held_back: bool, preempted: int) -> None:
        """A step was scheduled; it began at `t`. `first` is who is first in line and did not start, `held_back` says
        that it would have fitted."""
        if self._recording.stopped:
            return
        scheduler, tokens = self._scheduler, output.num_scheduled_tokens
        if self._starting:
            self._begin_those_of(tokens, t)
        total, work = output.total_num_scheduled_tokens, self._prompt_work(tokens) if self._prompts else NONE
        decoded = total - work.tokens
        context = self._context + work.prompt_context + work.again_context
        self._context += decoded - work.again
        for name in work.done:
            self._prompts.discard(name)
            self._decoding.add(name)
            self._context += scheduler.requests[name].num_computed_tokens
        running, waiting = scheduler.get_request_counts()
        cause = self._cause(first is not None, held_back, preempted) if waiting else "intake"
        if cause != self._queue.cause:
            self._queue.turn(cause, t)
        if self._skipped or self._aside or first is not None:
            self._set_aside(t, first, "policy" if held_back else "memory")
        if total or preempted:
            used = self._usable - self._pool.get_num_free_blocks()
            values = (
                work.tokens, decoded, work.prompts, len(tokens) - work.prompts, context, work.prompt_context, running,
                waiting, used, preempted, cause,
            )  # fmt: skip
            self._open.append((output, t, values, work))

    def processed(self, output: Any) -> None:
        """The output of a step was processed. Steps end in the order they began; those that did nothing left no trace."""
        if not self._open or self._open[0][0] is not output:
            return
        _, start, values, work = self._open.popleft()
        t = self._clock()
        for name in work.done:
            self._computed(name, t)
        for name in work.caught_up:
            life = self._lives.get(name)
            if life is not None and life.cause == "recompute":
                life.turn("prefill", t)
        self._recording.step(start, t, values)
        self._until_recount -= 1
        if not self._until_recount:
            self._recount()

    def _prompt_work(self, tokens: Mapping[str, int]) -> PromptWork:
        """What a step computes of those of whom not all is computed that is known."""
        work, requests, lives = PromptWork(), self._scheduler.requests, self._lives
        for name in self._prompts & tokens.keys():
            request, count = requests[name], tokens[name]
            end = request.num_computed_tokens  # schedule() has added them already
            before, life = end - count, lives.get(name) if request.num_preemptions else None
            frontier = 0 if life is None else life.frontier
            if life is not None and before >= frontier and before >= request.num_prompt_tokens:
                work.again += count  # the cache had all that it lost: it decodes
                work.again_context += before
            else:
                work.tokens += count
                work.prompts += 1
                work.prompt_context += before
            if end >= request.num_tokens:
                work.done.append(name)
            elif life is not None and end >= frontier:
                work.caught_up.append(name)
        return work

    def _begin_those_of(self, tokens: Mapping[str, int], t: float) -> None:
        for name in self._starting & tokens.keys():
            self._starting.discard(name)
            self._prompts.add(name)
            self._aside.pop(name, None)
            life = self._lives.get(name)
            if life is not None:
                life.turn("recompute" if life.cause == "preempted" else "prefill", t)

    def _computed(self, name: str, t: float) -> None:
        """All that is known of a request is computed: with this step it has its first token, or its next."""
        life, request = self._lives.get(name), self._scheduler.requests.get(name)
        if life is None or request is None or life.cause not in ("prefill", "recompute"):
            return
        if life.first is None:
            life.answered(t)
        life.turn("decode", t)

    def _recount(self) -> None:
        self._until_recount = self.RECOUNT
        requests = self._scheduler.requests
        self._context = sum(requests[name].num_computed_tokens for name in self._decoding)

    # -- who waits, and why --------------------------------------------------------------------

    def _cause(self, blocked: bool, held_back: bool, preempted: int) -> str:
        scheduler = self._scheduler
        if scheduler.pause_state.name != "UNPAUSED":
            return "paused"
        if preempted:
            return "memory"
        if blocked:
            return "policy" if held_back else "behind"
        if len(scheduler.running) + scheduler.num_waiting_for_streaming_input >= self._seats:
            return "seat"
        skipped = self._skipped
        if len(skipped) >= len(scheduler.waiting) and all(map(self._own_cause, skipped)):
            return "intake"
        return "budget"

    def _own_cause(self, request: Any) -> str | None:
        """Why vLLM skips it, whoever else there is; None if it only waits for its turn."""
        cause = BY_STATUS.get(request.status)
        if cause is not None:
            return cause
        if request.request_id in self._unknown():
            return "load"
        lora, config = request.lora_request, self._scheduler.lora_config
        if config and lora:
            loaded = {r.lora_request.lora_int_id for r in self._scheduler.running if r.lora_request}
            if len(loaded) >= config.max_loras and lora.lora_int_id not in loaded:
                return "lora"
        return None

    def _set_aside(self, t: float, first: Any | None, why: str) -> None:
        """Who waits for something else than the line does: those that are skipped, and the first one."""
        causes = {request.request_id: self._own_cause(request) for request in self._skipped}
        now = {name: cause for name, cause in causes.items() if cause is not None}
        if first is not None:
            now.setdefault(first.request_id, why)
        before, lives = self._aside, self._lives
        if now == before:
            return
        for name, cause in now.items():
            life = lives.get(name)
            if before.get(name) != cause and life is not None and life.waits:
                life.turn(cause, t)
        for name in before.keys() - now.keys():
            life = lives.get(name)
            if life is not None and life.waits:
                life.turn(None, t)
        self._aside = now


def recorded_facts(scheduler: Any) -> dict[str, Any]:
    """What a simulation of this engine has to know beside what its records say anyway."""
    config = scheduler.vllm_config
    model = config.model_config
    return {
        "model": str(model.served_model_name or model.model),
        "max_model_len": scheduler.max_model_len,
        "max_num_batched_tokens": scheduler.max_num_scheduled_tokens,
        "hash_block_size": getattr(scheduler, "hash_block_size", scheduler.block_size),
        "tensor_parallel": config.parallel_config.tensor_parallel_size,
        "kv_groups": [type(g).__name__ for g in scheduler.kv_cache_manager.coordinator.single_type_managers],
    }
