"""Who may start, and when: memory, the headroom a policy asks for, and the policy's own word."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from vllm.v1.request import RequestStatus

from bidkv.adapters.shared.session import Session
from bidkv.adapters.shared.tickets import Ticket
from bidkv.adapters.vllm.memory.blocks import KVBlocks
from bidkv.adapters.vllm.memory.demand import Demand
from bidkv.adapters.vllm.memory.looks import Looks
from bidkv.adapters.vllm.memory.seats import lacks_lora_slot
from bidkv.request import RequestState


class Guess(NamedTuple):
    """What a ticket remembers of one that may pass: the blocks it takes, and its `most` at so many tokens."""

    until: int  # a step
    needed: float
    tokens: int = -1
    most: int | None = None


STARTABLE = frozenset({RequestStatus.WAITING, RequestStatus.PREEMPTED})


class Gate:
    """Answers for one scheduler. `states_of` gives requests' `RequestState`s as of now, `came_at` when one by this name came, in
    the engine's time: vLLM keeps the wall clock's, which may have been set since."""

    GUESS_STEPS = 16  # as long as what was guessed of a request that may pass is believed
    BLOCKS = 256  # lookups a step in the prefix cache for those who may pass; then nobody else is looked at
    LOOK_S = 0.002  # nor when looking has taken so many seconds of a step

    def __init__(
        self,
        scheduler: Any,
        blocks: KVBlocks,
        demand: Demand,
        looks: Looks,
        session: Session,
        states_of: Callable[[Sequence[Any]], list[RequestState]],
        came_at: Callable[[str], float],
    ):
        self._scheduler, self._blocks, self._demand, self.looked = scheduler, blocks, demand, looks
        self._session, self._states_of, self._came_at = session, states_of, came_at
        self.look_s, self.look_candidates = self.LOOK_S, math.inf
        self._looked_s = 0.0  # in this step
        self._step = 0
        self._decodes = 0  # steps in a row in which no prompt was computed
        self._prompts: bool | None = None  # whether this step computes one; None = not asked yet
        self._states: list[RequestState] = []  # of who runs, as of this step
        self._room_at: tuple[int, int, int] | None = None  # the step, how many ran, what was free
        self._room_left = math.inf
        self._unasked = False  # the policy has more to say than `_room_left`
        self._verdict = ("", 0, False)
        self._need: tuple[str, int] = ("", 0)  # of the first in line, when it was asked about last
        self._held: tuple[str, float] | None = (
            None  # whom the policy holds back though it fits, and since when
        )
        self._shown: tuple[str, int] = ("", 0)  # for whom vLLM was to ask a connector, and in which step
        self.unknown: set[str] = set()  # whose KV elsewhere a connector could not tell yet

    def begin(self) -> None:
        """A step begins."""
        self._step += 1
        self.looked.reset()
        self._prompts, self._states, self._looked_s = None, [], 0.0
        self._demand.begin()
        self._session.pool.step += 1

    def stepped(self, prompt_tokens: int) -> None:
        """A step was scheduled that does something."""
        self._decodes = 0 if prompt_tokens else self._decodes + 1

    def may_pass(self, first: Ticket[Any]) -> bool:
        """Whether who passes the first in line adds no step with a prompt to this one, or not too soon; not where
        there is no room for anybody, nor where that one was passed for long enough."""
        if self.passed_long_enough(first) or self._room(self._blocks.free()) < 0:
            return False
        running = self._scheduler.running
        if not running or self._session.passes_alone(self._decodes, len(running)):
            return True
        if running[-1].num_computed_tokens + 1 < running[-1].num_tokens:  # started in this step
            return True
        if self._prompts is None:
            self._prompts = any(r.num_computed_tokens + 1 < r.num_tokens for r in running)
        return self._prompts

    def passed_long_enough(self, first: Ticket[Any]) -> bool:
        """Whether the first in line is passed by nobody any more; nor is one that fits and that the policy holds back, no
        longer than `patience`: it would lose its memory meanwhile."""
        policy = self._session.strategy.admission
        if policy.passing == math.inf:
            return False
        needed = self.need_of(first.name)
        if needed + self._demand.watermark(first.item) <= self._blocks.free():
            return bool(needed)
        now = self._session.now()
        if first.blocked_t is None:
            first.blocked_t = now
        if policy.reclaims and needed >= policy.large * self._blocks.usable:
            return False  # until it gets memory back
        since = first.blocked_t
        return now - since > max(policy.passing_s, policy.passing * (since - first.t))

    def ready(self, request: Any) -> bool:
        """Whether vLLM will try to start it now, for all that is known; else it skips it."""
        if request.status not in STARTABLE or request.request_id in self.unknown:
            return False
        if getattr(request, "num_stale_output_tokens", 0) and not getattr(request, "drop_stale_output", True):
            return False
        return not lacks_lora_slot(request, self._scheduler)

    def fits(self, request: Any) -> bool:
        """Whether vLLM would find room for the first in line, and the policy would let it start; or whether that is to
        be seen, since only vLLM asks a connector how much it has."""
        verdict = self._fits(request)
        self._verdict = (request.request_id, self._step, verdict)
        return verdict or self._asks_first(request)

    def cleared(self, request_id: str) -> bool:
        """Whether `fits` said so in this step."""
        return self._verdict == (request_id, self._step, True)

    def _fits(self, request: Any) -> bool:
        needed, free = self._demand.most(request), self._blocks.free()
        if needed + self._demand.watermark(request) > free or not self._open(request, needed, free):
            if not (self._demand.looks_up(request) or self._demand.depends_on_connector(request)):
                self._need = (request.request_id, needed)
                return False
            needed = self._demand.exact(request)
            self._need = (request.request_id, needed)
            if needed + self._demand.watermark(request) > free:
                return False
        return self.open_to(request, needed)

    def _asks_first(self, request: Any) -> bool:
        """Whether it fits if a connector has enough of it, and vLLM has not asked for a while. If it has not, nobody
        passes in this step."""
        if not self._demand.depends_on_connector(request):
            return False
        name, step = self._shown
        if name == request.request_id and 0 < self._step - step < self.GUESS_STEPS:
            return False
        if self._demand.least(request) + self._demand.watermark(request) > self._blocks.free():
            return False
        self._shown = (request.request_id, self._step)
        return True

    def need_of(self, request_id: str) -> int:
        """Blocks that the first in line took when it did not fit; 0 where that is not known."""
        name, needed = self._need
        return needed if name == request_id else 0

    def may_go_ahead(self, ticket: Ticket[Any], first: Ticket[Any]) -> bool:
        """Whether one behind a first that does not fit may be offered in its place."""
        request = ticket.item
        if request.num_preemptions and self._session.strategy.admission.reclaims:
            return False
        note = ticket.note
        if note is not None and self._step < note.until:
            needed = note.needed
        else:
            known = self._guess(request, ticket)
            if known is None:
                return False
            needed = known
        free = self._blocks.free()
        return (
            needed <= free
            and needed <= self._room(free)
            and needed + self._demand.watermark(request) <= free
            and self._open(request, needed, free)
        )

    def refused(self, ticket: Ticket[Any] | None) -> None:
        """vLLM found no room for one that was offered: it is not offered again soon."""
        if ticket is not None:
            ticket.note = Guess(self._step + self.GUESS_STEPS, math.inf)

    def open_to(self, request: Any, needed: int | None = None) -> bool:
        """Whether the policy lets the first in line start, for which there is room. Not held back for ever."""
        needed = self._demand.exact(request) if needed is None else needed
        if self._open(request, needed, self._blocks.free()):
            return True
        now, name = self._session.now(), request.request_id
        if self._held is None or self._held[0] != name:
            self._held = (name, now)
        since = self._held[1]
        return now - since > self._session.strategy.admission.patience * max(0.0, since - self._came_at(name))

    def _open(self, request: Any, needed: float, free: int) -> bool:
        """The policy's word. Always yes, when nothing runs."""
        if not needed <= self._room(free):
            return False
        if not self._unasked:
            return True
        session, size = self._session, self._blocks.block_size
        session.pool.free_tokens, session.pool.needed_tokens = free * size, needed * size
        if session.strategy.admission.only_reserves:  # the same for all who are looked at
            self._room_left = min(
                self._room_left, (free * size - session.reserve(self._running_states())) / size
            )
            self._unasked = False
            return needed <= self._room_left
        (state,) = self._states_of([request])
        if session.strategy.admission.sees_cache:
            state.cached_tokens = self._demand.cached_tokens(request, state.cached_tokens)
        return session.admits(state, self._running_states())

    def _room(self, free: int) -> float:
        """Blocks that who starts may take, as far as the policy has been asked. Of a state in which nobody started and
        nothing was given away since, it is asked once."""
        running = self._scheduler.running
        at = (self._step, len(running), free)
        if at != self._room_at:
            self._room_at, session = at, self._session
            admission = session.strategy.admission
            rules = bool(running) and session.orders_waiting and admission.gates
            self._room_left = free - int(admission.headroom * self._blocks.total) if rules else math.inf
            self._unasked = rules and admission.asks
        return self._room_left

    def _running_states(self) -> list[RequestState]:
        running = self._scheduler.running
        known = len(self._states)
        if known < len(running):
            self._states += self._states_of(running[known:])
        elif known > len(running):  # never while requests are admitted; but a policy must not see who is gone
            self._states = self._states_of(running)
        self.looked.running += len(running)
        return self._states

    def _guess(self, request: Any, ticket: Ticket[Any]) -> float | None:
        """Blocks it takes; None where no more may be looked up in this step."""
        if self.looked.blocks >= self.BLOCKS:
            return None
        if self._looked_s > self.look_s or self.looked.candidates >= self.look_candidates:
            self.looked.cut = True
            return None
        start = perf_counter()
        self.looked.candidates += 1
        note, tokens = ticket.note, request.num_tokens
        lasts = self._demand.most_lasts and not request.num_computed_tokens
        if lasts and note is not None and note.tokens == tokens:
            most = note.most
        else:
            most = self._demand.most(request)
        needed = self._demand.guess(request, most)
        ticket.note = Guess(self._step + self.GUESS_STEPS, needed, tokens if lasts else -1, most)
        self._looked_s += perf_counter() - start
        return needed
