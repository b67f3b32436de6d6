"""Records what one vLLM scheduler did: why requests wait is read off vLLM's own queues and statuses after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vllm.v1.request import RequestStatus

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.recording.engine import Recording

BY_STATUS = {
    RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR: "grammar",
    RequestStatus.WAITING_FOR_REMOTE_KVS: "load",
    RequestStatus.WAITING_FOR_STREAMING_REQ: "input",
}


class Recorder:
    """Owned by a scheduler; told of what happens to requests, and of each step when it is scheduled and when it ends.

    A step costs it as much as there are prompts in it and requests that were skipped: who decodes or waits in line is
    counted, not gone through.
    """

    RECOUNT = 256  # steps after which the tokens of who decodes are summed anew: drafts and loads take some back

    def __init__(self, scheduler: Any, recording: Recording, unknown: Callable[[], Iterable[str]]):
        self._scheduler, self._recording, self._unknown = scheduler, recording, unknown
        self._lives, self._queue = recording.lives, recording.queue
        self._pool = scheduler.kv_cache_manager.block_pool
        self._usable: int = self._pool.num_gpu_blocks - 1  # one is vLLM's null block
        self._seats: int = getattr(scheduler, "max_num_active_reqs", scheduler.max_num_running_reqs)
        self._starting: set[str] = set()  # taken off the queue, not computed yet
        self._prompts: set[str] = set()  # not all of what is known of them is computed
        self._aside: dict[str, str] = {}  # who waits for a cause of its own
        self._open: dict[int, tuple[list[Any], list[str], list[str]]] = {}  # see `scheduled`
        self._last_end = 0.0
        self._decoding: set[str] = set()
        self._context = 0  # their computed tokens
        self._until_recount = self.RECOUNT

    # -- requests ------------------------------------------------------------------------------

    def arrived(self, request: Any, account: RequestAccount, t: float) -> None:
        if self._recording.stopped:
            return
        state, lora = account.state, request.lora_request
        facts = {
            "id": state.request_id,
            "prompt": request.num_prompt_tokens,
            "max_tokens": request.max_tokens,
            "session": state.session or getattr(request, "session_id", None),
            "priority": request.priority,
            "lora": lora.lora_int_id if lora else None,
        }
        self._recording.arrived(request.request_id, facts, request.arrival_time, t)

    def started(self, request: Any, t: float) -> None:
        """vLLM took it off the queue; or its KV begins to be loaded."""
        name = request.request_id
        self._starting.add(name)
        life = self._lives.get(name)
        if life is not None and life.waits and request.status is RequestStatus.WAITING_FOR_REMOTE_KVS:
            life.turn("load", t)

    def preempted(self, request: Any, request_id: str, t: float) -> None:
        """Before vLLM takes its blocks."""
        self._stopped(request)
        self._recording.preempted(request.request_id, request_id, request.num_computed_tokens, t)

    def awaits_input(self, request: Any, t: float) -> None:
        """A streaming session's turn is over."""
        self._stopped(request)
        life = self._lives.get(request.request_id)
        if life is not None:
            life.turn("input" if request.status in BY_STATUS else None, t)

    def stopped(self, request: Any) -> None:
        """It ends; before vLLM takes its blocks."""
        self._stopped(request)

    def ended(self, request: Any, record: Mapping[str, Any], t: float) -> None:
        self._recording.ended(request.request_id, record, request.block_hashes, t)

    def close(self) -> None:
        self._recording.close()

    def decides(self, strategy: Mapping[str, Any], t: float) -> None:
        self._recording.decides(strategy, t)

    def _stopped(self, request: Any) -> None:
        name = request.request_id
        self._starting.discard(name)
        self._prompts.discard(name)
        self._aside.pop(name, None)
        if name in self._decoding:
            self._decoding.discard(name)
            self._context -= request.num_computed_tokens

    # -- steps ---------------------------------------------------------------------------------

    def scheduled(self, output: Any, t: float, first: Any | None, held_back: bool, preempted: int) -> None:
        """A step was scheduled; it began at `t`. `first` is who is first in line and did not start, `held_back` says
        that it would have fitted."""
        if self._recording.stopped:
            return
        scheduler, tokens = self._scheduler, output.num_scheduled_tokens
        if self._starting:
            for name in self._starting & tokens.keys():
                self._begin(name, t)
        total, requests = output.total_num_scheduled_tokens, scheduler.requests
        done: list[str] = []  # all that is known of these is computed then
        caught_up: list[str] = []  # these are where they were when they were preempted
        prefill = prefills = prefill_context = again = agains = again_context = 0
        for name in self._prompts & tokens.keys() if self._prompts else ():
            request, count = requests[name], tokens[name]
            before, frontier = request.num_computed_tokens - count, self._frontier(name)
            if request.num_preemptions and before >= max(frontier, request.num_prompt_tokens):
                again, agains = again + count, agains + 1  # the cache had all of it: it decodes
                again_context += before
            else:
                prefill, prefills = prefill + count, prefills + 1
                prefill_context += before
            if request.num_computed_tokens >= request.num_tokens:
                done.append(name)
            elif request.num_preemptions and request.num_computed_tokens >= frontier:
                caught_up.append(name)
        decodes, decoded = len(tokens) - prefills, total - prefill
        context = self._context + prefill_context + again_context
        if len(self._decoding) > decodes - agains:  # some are left out of this step
            left_out = self._decoding - tokens.keys()
            context -= sum(requests[name].num_computed_tokens for name in left_out)
        self._context += decoded - again
        for name in done:
            self._prompts.discard(name)
            self._decoding.add(name)
            self._context += requests[name].num_computed_tokens
        running, waiting = scheduler.get_request_counts()
        cause = self._cause(output, first is not None, held_back, preempted) if waiting else "intake"
        self._queue.turn(cause, t)
        self._set_aside(t, first, "policy" if held_back else "memory")
        if total or preempted:
            used = self._usable - self._pool.get_num_free_blocks()
            values = [
                t, 0.0, prefill, decoded, prefills, decodes, context, prefill_context, running, waiting,
                used, preempted, cause,
            ]  # fmt: skip
            self._open[id(output)] = values, done, caught_up

    def processed(self, output: Any, t: float) -> None:
        """The output of a step was processed."""
        values, done, caught_up = self._open.pop(id(output), (None, (), ()))
        if values is None:
            return
        for name in done:
            self._computed(name, t)
        for name in caught_up:
            life = self._lives.get(name)
            if life is not None and life.cause == "recompute":
                life.turn("prefill", t)
        values[1] = round(t - max(values[0], self._last_end), 7)
        values[0], self._last_end = round(values[0], 6), t
        self._recording.step(values)
        self._until_recount -= 1
        if not self._until_recount:
            self._recount()

    def _frontier(self, name: str) -> int:
        life = self._lives.get(name)
        return 0 if life is None else life.frontier

    def _begin(self, name: str, t: float) -> None:
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

    def _cause(self, output: Any, blocked: bool, held_back: bool, preempted: int) -> str:
        scheduler = self._scheduler
        pause = getattr(scheduler, "pause_state", None)
        if pause is not None and pause.name != "UNPAUSED":
            return "paused"
        if preempted:
            return "memory"
        if blocked:
            return "policy" if held_back else "behind"
        if len(scheduler.running) + scheduler.num_waiting_for_streaming_input >= self._seats:
            return "seat"
        skipped = self._skipped()
        if len(skipped) >= len(scheduler.waiting) and all(map(self._own_cause, skipped)):
            return "intake"
        return "budget"

    def _skipped(self) -> Any:
        """Whom vLLM did not start for a reason of their own; 0.26 has a queue for them."""
        scheduler = self._scheduler
        found = getattr(scheduler, "deferred_waiting", None)
        return scheduler.skipped_waiting if found is None else found

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
        skipped = self._skipped()
        if not (skipped or self._aside or first is not None):
            return
        causes = {request.request_id: self._own_cause(request) for request in skipped}
        now = {name: cause for name, cause in causes.items() if cause is not None}
        if first is not None:
            now.setdefault(first.request_id, why)
        before, lives = self._aside, self._lives
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
