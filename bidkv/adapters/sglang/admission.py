"""One pass of SGLang over its waiting queue, in which an admission policy has its say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sglang.srt.managers import schedule_policy
from sglang.srt.managers.schedule_policy import AddReqResult

from bidkv.adapters.sglang.places import Place, Places
from bidkv.adapters.sglang.reclaim import FirstInLine
from bidkv.adapters.shared.session import Session
from bidkv.request import RequestState


class AdmissionRound:
    """What SGLang is told of each request it offers to its `PrefillAdder`, one after the other until one is refused.

    Whether a request fits, and what it takes, SGLang's own code says, for every kind of pool and cache. A policy
    may refuse whom SGLang would admit, and may let others pass one who does not fit: SGLang is then told to go
    on to the next. Refusals for another reason (no room in this prefill, too many of them) stay SGLang's.

    A prefill has a step of its own here, in which nobody decodes, and a short one takes hardly less than a
    long one. So whoever passes the first in line joins a prefill that takes place anyway, or starts one after
    as many steps without (`decodes`, counted) as the policy's `passes_alone` asks for.
    """

    BELIEVED = 16  # rounds
    LOOKS = 65_536  # tokens of prompts that are looked up in a round; then nobody else is, behind the first in line

    def __init__(
        self,
        session: Session,
        places: Places,
        state_of: Callable[[Any], RequestState],
        first: FirstInLine,
        number: int,
        decodes: int,
        mixed: bool,
    ):
        """`state_of` looks up a request, `number` counts rounds; `mixed`: those that run decode beside a prefill."""
        self._first, self._number = first, number
        self.looked = 0  # tokens of prompts that were looked up
        self._skipped: str | None = None
        self._left = math.inf  # what SGLang has left for others than the first in line, at most
        self._session, self._places, self._state_of = session, places, state_of
        self._policy = session.strategy.admission
        self._running: list[RequestState] | None = None  # once they are asked for
        self._decodes, self._mixed = decodes, mixed
        self._passed = False  # somebody was refused, and others are tried
        self._tried = 0  # of those behind it
        self.batch: Any = None  # SGLang's running batch, once somebody was refused for memory
        self.waits_alone = False  # passers may start by themselves later

    def looks_up(self, req: Any) -> bool:
        """Whether SGLang is to look up the prefix of the next request. Not of one behind the first in line that did not fit
        lately, nor after many others: `offer` passes over it then."""
        look = not self._passed or req.rid not in self._places or self._is_worth_a_look(self._places[req.rid])
        self._skipped = None if look else req.rid
        if look:
            self.looked += len(req.origin_input_ids) + len(req.output_ids)
        return look

    def _is_worth_a_look(self, place: Place) -> bool:
        if self._number <= place.until:
            return self._left >= place.wants
        return self.looked < self.LOOKS  # else another round will do

    def offer(self, adder: Any, req: Any, add: Callable[[], AddReqResult]) -> AddReqResult:
        """SGLang's verdict on the next request, after `add` (its own code) was asked, or not."""
        if self._somebody_else_is_due(req):
            return AddReqResult.OTHER
        if self._passed and not self._may_try_another(adder):
            return self._stop(adder)
        policy = self._policy
        if self._skipped == req.rid or (self._passed and self._gave_way(req)):
            return AddReqResult.CONTINUE
        if self._open_to(adder, req) or not (self._passed or self._is_held_back(req)):
            verdict = add()
            if adder.can_run_list and adder.can_run_list[-1] is req:
                self._places.start(req.rid)
                if self._running is not None:
                    self._running.append(self._state_of(req))
                self._left = adder.rem_total_tokens
                return verdict
            if verdict is not AddReqResult.NO_TOKEN or not policy.backfill:
                return verdict
            wants, left = tokens_refused(adder, req)
            if not self._passed:
                arrival = self._state_of(req).arrival
                self._first.refused(req.rid, self._session.clock(), arrival, wants, left)
        elif not policy.backfill or (not self._passed and policy.passing < math.inf):
            return self._stop(adder)  # held back though it fits: whoever passed would take its memory
        else:
            left = adder.rem_total_tokens
            wants = left + 1
        if self._is_due(req):
            return self._stop(adder)
        if self._passed:
            place = self._places[req.rid]
            place.wants, place.until = wants, self._number + self.BELIEVED
        # A prefix that the first in line has in the cache could be evicted for others.
        self._left = adder.rem_total_tokens
        self._passed, self.batch = True, adder.running_batch
        return AddReqResult.CONTINUE

    def _gave_way(self, req: Any) -> bool:
        """Who gave its memory back to the first in line does not pass again."""
        return self._policy.reclaims and self._state_of(req).preemptions > 0

    @property
    def stalled(self) -> bool:
        """Whether memory or the policy keeps somebody waiting, so that another look is of no use before something changes."""
        return self.batch is not None

    def _stop(self, adder: Any) -> AddReqResult:
        self.batch = adder.running_batch
        return AddReqResult.OTHER

    def _may_try_another(self, adder: Any) -> bool:
        """Whether one more may pass: not too many are looked at, and a prefill of passers alone is rare enough."""
        running = len(adder.running_batch.reqs) if adder.running_batch is not None else 0
        if not (adder.can_run_list or self._mixed or self._session.passes_alone(self._decodes, running)):
            self.waits_alone = True
            return False
        if self._first.passed_long_enough(self._session.clock(), self._policy):
            return False
        self._tried += 1
        return self._tried <= self._policy.backfill

    def _somebody_else_is_due(self, req: Any) -> bool:
        limit = self._policy.max_overtaken
        if limit is None:
            return False
        due = self._places.most_overtaken()
        return due is not None and due.name != req.rid and self._places.overtaken(due) >= limit

    def _is_due(self, req: Any) -> bool:
        limit = self._policy.max_overtaken
        return limit is not None and self._places.overtaken(self._places[req.rid]) >= limit

    def _is_held_back(self, req: Any) -> bool:
        arrival = self._state_of(req).arrival
        return self._first.is_held_back(req.rid, self._session.clock(), arrival, self._policy)

    def _open_to(self, adder: Any, req: Any) -> bool:
        """Whether the policy lets a request start beside those that run. It is not asked about one that does not fit."""
        policy = self._policy
        if not policy.gates or not self._who_runs(adder):
            return True
        needed = tokens_needed(adder, req)
        with adder._lock_node(
            req.last_node
        ):  # what the request finds in the cache is not there to be evicted
            free = adder.cur_rem_tokens
        if needed > free:
            return True  # SGLang will say no
        pool = self._session.pool
        if needed + policy.headroom * pool.capacity_tokens > free:
            return False
        if not policy.asks:
            return True
        pool.free_tokens, pool.needed_tokens = free, needed
        return self._session.admits(self._state_of(req), self._running)

    def _who_runs(self, adder: Any) -> list[RequestState]:
        """Those that hold KV, as they are now; with overlapped steps a batch still lists those that have just finished."""
        if self._running is None:
            batch = adder.running_batch.reqs if adder.running_batch is not None else ()
            reqs = [req for req in (*batch, *adder.can_run_list) if req.rid in self._places]
            self._running = [self._state_of(req) for req in reqs]
        return self._running


def tokens_refused(adder: Any, req: Any) -> tuple[int, float]:
    """What SGLang wants free for a request (its new KV, and the output it expects at most), and what it has."""
    output = min(
        max(0, req.sampling_params.max_new_tokens - len(req.output_ids)), schedule_policy.CLIP_MAX_NEW_TOKENS
    )
    with adder._lock_node(req.last_node):
        return tokens_needed(adder, req) + output + adder.page_size, adder.rem_total_tokens


def tokens_needed(adder: Any, req: Any) -> int:
    """The tokens of new KV that a request takes at once, in whole pages, after SGLang matched its prefix."""
    # 0.5.23 keeps the length of the match, 0.5.17 its indices.
    prefix = req.prefix_len if hasattr(req, "prefix_len") else len(req.prefix_indices)
    return adder.ceil_paged_tokens(len(req.full_untruncated_fill_ids) - prefix)
