"""The running requests as a policy sees them, all at once: the loop over them is most of what a preemption costs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.victims import CandidateRow
from bidkv.adapters.vllm.memory.blocks import KVBlocks
from bidkv.request import RequestState


def light_states(requests: Sequence[Any], accounts: Mapping[str, RequestAccount]) -> list[RequestState]:
    """The states of vLLM's requests as of now, without who owns their blocks."""
    states = [accounts[request.request_id].state for request in requests]
    for request, state in zip(requests, states, strict=True):
        state.computed_tokens = request.num_computed_tokens
        state.output_tokens = request.num_output_tokens
        state.preemptions = request.num_preemptions
    return states


class Snapshot:
    """`states` of vLLM's running requests as of now, in their order, and what stays when they change.

    Column after column and nothing twice: this happens while a whole step waits.
    """

    def __init__(self, running: Sequence[Any], accounts: Mapping[str, RequestAccount], blocks: KVBlocks):
        names = [request.request_id for request in running]
        self.states: list[RequestState] = [accounts[name].state for name in names]
        self._computed = [request.num_computed_tokens for request in running]
        self._outputs = [request.num_output_tokens for request in running]
        self._preemptions = [request.num_preemptions for request in running]
        totals, self._privates = blocks.held_by(names)
        size = blocks.block_size
        for state, computed, output, preemptions, total, private in zip(
            self.states, self._computed, self._outputs, self._preemptions, totals, self._privates, strict=True
        ):
            state.computed_tokens = computed
            state.output_tokens = output
            state.preemptions = preemptions
            state.total_blocks = total
            state.private_blocks = private
            own = computed if total == private else computed - (total - private) * size
            state.private_tokens = own if own > 0 else 0

    def rows(self, places: Sequence[int]) -> list[CandidateRow]:
        """What the policy was shown, for the record: those at `places`."""
        states, computed, outputs = self.states, self._computed, self._outputs
        privates, preemptions = self._privates, self._preemptions
        return [
            (states[i].request_id, computed[i], states[i].prompt_tokens, outputs[i], states[i].max_tokens, privates[i],
             preemptions[i])
            for i in places
        ]  # fmt: skip
