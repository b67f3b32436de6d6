"""The waiting queue of one SGLang admission round: in which order, and who is not shown to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from bidkv.adapters.sglang.pool import KVPool
from bidkv.adapters.shared.session import Session
from bidkv.request import RequestState


class AdmissionRound:
    """Arranges a sorted queue as `WaitingLine` offers it, for an engine that takes all that fits at once.

    Memory is reckoned as SGLang does: whoever starts needs its tokens and its declared output, the
    running ones `new_token_ratio` of the output they may still make; of no request more output than `clip`
    tokens (SGLang's CLIP_MAX_NEW_TOKENS). `state_of` and `overtaken` look up a request's `RequestState` and
    how many that came later were admitted before it.

    A prefill has a step of its own here, in which nobody decodes, and a short one takes hardly less than a
    long one. So whoever passes the first in line joins a prefill that takes place anyway, or starts one after
    as many steps without (`decodes`, counted) as the policy's `passes_alone` asks for.
    """

    def __init__(
        self,
        scheduler: Any,
        pool: KVPool,
        session: Session,
        running: Sequence[Any],
        state_of: Callable[[Any], RequestState],
        overtaken: Callable[[Any], int],
        clip: int,
        decodes: int,
    ):
        self._scheduler, self._session = scheduler, session
        self._state_of, self._overtaken = state_of, overtaken
        self._running, self._clip, self._decodes = running, clip, decodes
        self._page, self._capacity = pool.page_size, pool.num_blocks * pool.page_size
        self._free = pool.reclaimable_tokens()
        self._reserved = self._ratio() * sum(self._output_to_come(req) for req in running)

    def arrange(self, queue: list[Any]) -> list[Any]:
        """Reorders `queue` in place and takes out of it, as the result, who must wait though it might fit."""
        admission = self._session.strategy.admission
        limit = admission.max_overtaken
        overdue = [req for req in queue if limit is not None and self._overtaken(req) >= limit]
        if overdue:
            queue.remove(overdue[0])
            queue.insert(0, overdue[0])
        if not admission.backfill or overdue:
            return self._hold_from(queue, 0) if admission.gates else []
        first = 0
        while first < len(queue) and self._starts(queue[first]):
            first += 1
        behind = range(first + 1, min(len(queue), first + 1 + admission.backfill))
        prefills = first > 0 or self._may_stall()
        passing = [queue[i] for i in behind if self._starts(queue[i])] if prefills else []
        others = [req for req in queue[first:] if not any(req is other for other in passing)]
        queue[first:] = [*passing, *others]
        return self._hold_from(queue, first + len(passing))

    def _may_stall(self) -> bool:
        """Whether a prefill that only passers are in stalls nobody, or not too often."""
        scheduler, admission = self._scheduler, self._session.strategy.admission
        anyway = scheduler.chunked_req is not None or scheduler.is_mixed_chunk
        return anyway or admission.passes_alone(self._decodes)

    def _hold_from(self, queue: list[Any], index: int) -> list[Any]:
        """Everyone from the first on whom the policy does not let start; nobody may pass it unasked."""
        while index < len(queue):
            if not self._open_to(queue[index]):
                held = queue[index:]
                del queue[index:]
                return held
            index += 1
        return []

    def _starts(self, req: Any) -> bool:
        """Whether a request fits beside those that start before it; takes its memory if so."""
        needed, output = self._needed(req), self._output_to_come(req)
        if needed + output > self._free - self._reserved or not self._open_to(req):
            return False
        self._free -= needed
        self._reserved += output
        return True

    def _open_to(self, req: Any) -> bool:
        admission = self._session.strategy.admission
        if not self._running:
            return True
        needed = self._needed(req)
        if needed + admission.headroom * self._capacity > self._free:
            return False
        if not admission.asks:
            return True
        self._session.pool.free_tokens, self._session.pool.needed_tokens = self._free, needed
        return self._session.admits(self._state_of(req), self._running_states)

    @cached_property
    def _running_states(self) -> list[RequestState]:
        return [self._state_of(req) for req in self._running]

    def _needed(self, req: Any) -> int:
        """Tokens of new KV, in whole pages, less what the tree is known to hold of its prefix."""
        known = len(req.prefix_indices) if getattr(req, "prefix_indices", None) is not None else 0
        tokens = max(1, len(req.origin_input_ids) + len(req.output_ids) - known)
        return -(-tokens // self._page) * self._page

    def _ratio(self) -> float:
        tracker = getattr(self._scheduler, "new_token_ratio_tracker", None)
        return tracker.current if tracker is not None else self._scheduler.new_token_ratio

    def _output_to_come(self, req: Any) -> int:
        """The output tokens SGLang expects of a request at most."""
        return min(max(0, req.sampling_params.max_new_tokens - len(req.output_ids)), self._clip)
