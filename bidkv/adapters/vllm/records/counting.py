"""Which tokens were scheduled for whom, charged to their accounts at next to no cost a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount


class Counting:
    """Keeps the accounts of one scheduler.

    As long as a request runs, vLLM's own `num_computed_tokens` says what was scheduled for it: it is read when the
    request stops to run. Each step is counted where somebody reads the sums of steps, and where positions are
    scheduled twice without a preemption: rejected drafts, loads that failed, turns of a streaming session.
    """

    def __init__(self, scheduler: Any, accounts: Mapping[str, RequestAccount]):
        self._scheduler, self._accounts = scheduler, accounts
        self._rolls_back = (
            bool(scheduler.num_spec_tokens) or getattr(scheduler, "connector", None) is not None
        )
        self._each_step = True
        self._unopened: set[str] = set()  # who started and was not scheduled yet
        self._stepwise: set[str] = set()  # who is counted step by step though others are not

    def choose(self, read: bool) -> None:
        """Settings changed: does anybody read the sums of steps?"""
        each_step = read or self._rolls_back
        if each_step == self._each_step:
            return
        self._each_step = each_step
        self._stepwise.clear()
        for request in self._scheduler.running:
            account = self._accounts[request.request_id]
            if each_step:
                account.end_stretch(request.num_computed_tokens)
            elif account.first_scheduled_t is not None:
                account.stretch = request.num_computed_tokens

    def started(self, request: Any) -> None:
        """vLLM took it off its queue."""
        if not self._each_step:
            (self._stepwise if request.resumable else self._unopened).add(request.request_id)

    def step(self, scheduled: Mapping[str, int], t: float) -> None:
        """A step was scheduled (tokens by request id)."""
        names: Iterable[str] = scheduled
        if not self._each_step:
            names = self._stepwise & scheduled.keys() if self._stepwise else ()
            for name in self._unopened & scheduled.keys() if self._unopened else ():
                self._unopened.discard(name)
                computed = self._scheduler.requests[
                    name
                ].num_computed_tokens  # schedule() has added them already
                self._accounts[name].begin_stretch(computed - scheduled[name], t)
        for name in names:
            tokens = scheduled[name]
            self._accounts[name].scheduled(
                self._scheduler.requests[name].num_computed_tokens - tokens, tokens, t
            )

    def sums(self, scheduled: Mapping[str, int], t: float) -> dict[str, int]:
        """As `step`, where each is counted; and the sums of its record."""
        prefill_tokens = decode_tokens = prefill_reqs = decode_reqs = context = prefill_context = 0
        for name, tokens in scheduled.items():
            before = self._scheduler.requests[name].num_computed_tokens - tokens
            context += before
            if self._accounts[name].scheduled(before, tokens, t):
                decode_tokens += tokens
                decode_reqs += 1
            else:
                prefill_tokens += tokens
                prefill_reqs += 1
                prefill_context += before
        return {
            "prefill_tokens": prefill_tokens,
            "decode_tokens": decode_tokens,
            "prefill_reqs": prefill_reqs,
            "decode_reqs": decode_reqs,
            "context_tokens": context,
            "prefill_context": prefill_context,
        }

    def stopped(self, request: Any) -> None:
        """It was preempted or ends."""
        name = request.request_id
        self._unopened.discard(name)
        self._stepwise.discard(name)
        account = self._accounts.get(name)
        if account is not None:
            account.end_stretch(request.num_computed_tokens)

    @property
    def held(self) -> int:
        return len(self._unopened) + len(self._stepwise)


def prompt_tokens(output: Any) -> int:
    """Of a step: what it computes beyond one token a request and the drafts to be checked."""
    drafts = sum(map(len, output.scheduled_spec_decode_tokens.values()))
    return output.total_num_scheduled_tokens - len(output.num_scheduled_tokens) - drafts
