"""Records what one SGLang scheduler did: why requests wait is what SGLang said of its queue in each round."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sglang.srt.constants import HEALTH_CHECK_RID_PREFIX

from bidkv.adapters.sglang.contents import block_contents, hash_block_size
from bidkv.adapters.sglang.looks import NOBODY, QueueLook
from bidkv.adapters.sglang.pool import KVPool
from bidkv.adapters.sglang.requests import SGLangAccount
from bidkv.adapters.sglang.steps import Scheduled
from bidkv.adapters.shared.recording.engine import Recording


class Recorder:
    """Owned by an adapter; told of what happens to requests, of each round of SGLang's event loop, and of each step when it
    is launched and when its result is processed.

    What happens in a round has one time, that of its beginning: who is retracted in it and who starts wait and run from
    then on. Who decodes and who waits in line is counted, not gone through.
    """

    def __init__(self, scheduler: Any, pool: KVPool, recording: Recording, clock: Callable[[], float]):
        """`clock` is this process's own: that of the ranks together stands still during a round."""
        self._scheduler, self._pool, self._recording, self._clock = scheduler, pool, recording, clock
        self._tell = recording.tell
        self._look = QueueLook(scheduler)
        self._block = hash_block_size(pool.page_size)
        self._waiting: set[str] = set()  # for their start, or to start again
        self._frontiers: dict[str, int] = {}  # tokens that were computed when it was retracted, at most
        self._open: deque[tuple[float, tuple[Any, ...], list[str], list[str]]] = deque()  # steps under way
        self._round_t: float | None = None  # while SGLang schedules
        self._step_t, self._was_full = 0.0, False
        self._waits: tuple[str, Mapping[str, str]] = ("intake", NOBODY)

    # -- requests ------------------------------------------------------------------------------

    def arrived(self, req: Any, account: SGLangAccount) -> None:
        """It enters the queue. It came when SGLang's scheduler took it; where its grammar had to be compiled, it waited
        for that. SGLang's probes of its own health are in the steps, and no requests."""
        if req.rid.startswith(HEALTH_CHECK_RID_PREFIX):
            return
        t, state = self._now(), account.state
        came = min(t, self._clock() - (time.perf_counter() - req.time_stats.scheduler_recv_time))
        session = state.session or req.session_id
        told = state.request_id, state.prompt_tokens, state.max_tokens, state.priority, req.lora_id
        self._waiting.add(req.rid)
        compiled = getattr(req, "grammar_key", None) is not None  # 0.5.17 has none where there is no grammar
        self._tell((self._recording.on_arrival, req.rid, came, came if compiled else t, session, told))
        if compiled:
            self._tell((self._recording.on_turn, req.rid, "grammar", came))
            self._tell((self._recording.on_turn, req.rid, None, t))

    def retracted(self, name: str, tokens: int) -> None:
        """It had KV of so many tokens, and waits again."""
        self._waiting.add(name)
        self._frontiers[name] = max(tokens, self._frontiers.get(name, 0))
        self._tell((self._recording.on_preemption, name, name, tokens, self._now()))

    def ended(self, req: Any, record: Mapping[str, Any]) -> None:
        """`record` is its account's."""
        self._waiting.discard(req.rid)
        self._frontiers.pop(req.rid, None)
        own = {**record, "finish_t": self._now()}
        self._tell((self._recording.on_end, req.rid, own, block_contents(req, self._block)))

    def decides(self, strategy: Mapping[str, Any]) -> None:
        self._recording.decides(strategy, self._clock())

    def close(self) -> None:
        self._recording.close()

    def fail(self, error: Exception) -> None:
        """Something here is wrong: nothing more is recorded."""
        self._recording.fail(error)

    # -- rounds --------------------------------------------------------------------------------

    def begin(self) -> None:
        """A round begins."""
        self._recording.goes_on()
        self._round_t = self._step_t = self._clock()
        self._was_full = self._scheduler.running_batch.batch_is_full
        self._look.begin()

    def looks(self, queue: list[Any]) -> None:
        self._look.looks(queue)

    def offered(self, adder: Any, req: Any, verdict: Any) -> None:
        """What SGLang said of one that waits; None: the policy answered alone."""
        self._look.offered(req, verdict, bool(adder.can_run_list) and adder.can_run_list[-1] is req)

    def scheduled(self, plan: Any, preempted: int) -> None:
        """A round is over. `preempted` lost their memory in it."""
        t, self._round_t = self._step_t, None
        batch, running = plan.batch_to_run, plan.running_batch
        starts = batch is not None and batch.forward_mode.is_extend()
        begun: Collection[str] = ()
        if starts and self._waiting:
            begun = {req.rid for req in batch.reqs} & self._waiting
            self._waiting -= begun
        count = len(running.reqs) + (len(batch.reqs) if starts else 0)
        # SGLang takes the mark back when somebody leaves, which may be after it has left the queue alone for it.
        full = self._was_full or running.batch_is_full
        self._turn(self._look.cause(count, full, preempted > 0), t, begun)

    def paused(self) -> None:
        """SGLang was told to wait, and runs no round."""
        self._turn(self._look.paused(), self._clock(), ())

    def _turn(self, waits: tuple[str, Mapping[str, str]], t: float, begun: Collection[str]) -> None:
        if begun or waits != self._waits:  # else all is as it was
            self._waits = waits
            self._tell((self._recording.on_schedule, t, *waits, begun))

    # -- steps ---------------------------------------------------------------------------------

    def launched(
        self, batch: Any, scheduled: Scheduled, prefill: set[str], context: int, preempted: int
    ) -> None:
        """A step is about to run. `context` tokens lie before what it computes, of all requests together."""
        done: list[str] = []
        caught_up: list[str] = []
        tokens = prompts = before = 0
        running = len(batch.reqs)
        if prefill:
            known = {req.rid: len(req.origin_input_ids) + len(req.output_ids) for req in batch.reqs}
            running += len(self._scheduler.running_batch.reqs)
            for name, start, count in scheduled:
                if name not in prefill:
                    continue
                tokens, prompts, before = tokens + count, prompts + 1, before + start
                frontier = self._frontiers.get(name)
                if start + count >= known[name]:
                    done.append(name)
                elif frontier is not None and start + count >= frontier:
                    caught_up.append(name)
        decodes = len(scheduled) - prompts
        values = (
            tokens, decodes, prompts, decodes, context, before, running, len(self._scheduler.waiting_queue),
            self._pool.used_blocks(), preempted, self._waits[0],
        )  # fmt: skip
        self._open.append((self._step_t, values, done, caught_up))

    def processed(self) -> None:
        """The result of the oldest step under way was processed."""
        if self._open:
            start, values, done, caught_up = self._open.popleft()
            self._tell((self._recording.on_step, start, self._clock(), values, done, caught_up))

    def _now(self) -> float:
        return self._clock() if self._round_t is None else self._round_t


def recorded_facts(scheduler: Any, pool: KVPool) -> dict[str, Any]:
    """What a reader of the recording has to know of the engine beside what its records say anyway."""
    args = scheduler.server_args
    return {
        "model": str(args.model_path),
        "max_model_len": scheduler.model_config.context_len,
        "max_num_batched_tokens": scheduler.chunked_prefill_size or scheduler.max_prefill_tokens,
        "hash_block_size": hash_block_size(pool.page_size),
        "tensor_parallel": args.tp_size,
    }
