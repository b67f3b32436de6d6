"""What an SGLang step computes, counted for its requests and for the record of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bidkv.adapters.sglang.pool import KVPool
from bidkv.adapters.sglang.requests import SGLangAccount

Scheduled = list[tuple[str, int, int]]
"""(id, first position, tokens) of each request in a step."""


class StepCounter:
    """Counts the tokens of each step for the accounts of its requests, when it is launched."""

    def __init__(self, accounts: Mapping[str, SGLangAccount], started: Callable[[str], None]):
        """`started` is told of each request whose prefill begins."""
        self._accounts, self._started = accounts, started
        self._admissions = 0
        self.decodes = 0  # steps since the last prefill
        self.context = 0  # tokens before those of the latest step, of all its requests together

    def launched(self, batch: Any, t: float) -> tuple[Scheduled, set[str]]:
        """What a step is about to compute, and the ids that prefill."""
        accounts = self._accounts
        if not batch.forward_mode.is_extend():
            self.decodes += 1
            return self._decoded(batch, t), set()
        self.decodes = 0
        decoding = {req.rid for req in batch.decoding_reqs or ()}
        scheduled = [
            (req.rid, start, tokens)
            for req, start, tokens in zip(batch.reqs, batch.prefix_lens, batch.extend_lens, strict=True)
        ]
        prefill = {name for name, _, _ in scheduled} - decoding
        for name, _, _ in scheduled:  # in the batch's order, which is the same on all ranks
            account = accounts.get(name) if name in prefill else None
            if account is not None and not account.computed:
                self._admissions += 1
                account.admitted = self._admissions
                self._started(name)
        self._count(scheduled, t)
        return scheduled, prefill

    def _decoded(self, batch: Any, t: float) -> Scheduled:
        """One token for each; a step waits for this loop."""
        accounts, scheduled, context = self._accounts, [], 0
        for req in batch.reqs:
            name = req.rid
            account = accounts.get(name)
            if account is not None:
                start = account.computed
                account.computed = start + 1
                account.scheduled(start, 1, t)
                scheduled.append((name, start, 1))
                context += start
        self.context = context
        return scheduled

    def _count(self, scheduled: Scheduled, t: float) -> None:
        self.context = sum(start for _, start, _ in scheduled)
        for name, start, tokens in scheduled:
            account = self._accounts.get(name)
            if account is not None:
                account.scheduled(start, tokens, t)
                account.computed = start + tokens


def token_counts(scheduled: Sequence[tuple[str, int, int]], prefill: set[str]) -> dict[str, int]:
    """Sums over a step; the context of a request is its first position."""
    names = (
        "prefill_tokens",
        "decode_tokens",
        "prefill_reqs",
        "decode_reqs",
        "context_tokens",
        "prefill_context",
    )
    counts = dict.fromkeys(names, 0)
    for name, start, tokens in scheduled:
        kind = "prefill" if name in prefill else "decode"
        counts[f"{kind}_tokens"] += tokens
        counts[f"{kind}_reqs"] += 1
        counts["context_tokens"] += start
        counts["prefill_context"] += start if kind == "prefill" else 0
    return counts


def occupancy(scheduler: Any, pool: KVPool, batch: Any, admits: bool) -> dict[str, Any]:
    """Who runs and waits in a step, and how full the memory is."""
    running = len(batch.reqs) + (len(scheduler.running_batch.reqs) if admits else 0)
    waiting = len(scheduler.waiting_queue)
    seats_free = running < scheduler.max_running_requests
    return {
        "running": running,
        "waiting": waiting,
        "used_blocks": pool.used_blocks(),
        "cached_free_blocks": pool.evictable_tokens() // pool.page_size,
        # A prompt still being cut into chunks keeps the others waiting for compute, not for memory.
        "hol_blocked": bool(waiting and seats_free and scheduler.chunked_req is None),
    }
