"""A stand-in for the model: its next token depends on the prompt and the position alone, and it remembers every KV slot."""

from __future__ import annotations

import zlib
from typing import Any

from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput


class StaleKVError(AssertionError):
    """A request was scheduled on KV that was never computed for its prefix."""


class StandIn:
    """Runs scheduler outputs. With `slots` tokens a block it writes a checksum of the prefix to each KV slot and
    raises `StaleKVError` where a request is scheduled on others' KV; 0 checks nothing.

    `exact` says that positions are known when a step is scheduled, which speculation in several steps at a
    time makes impossible: then every token is the same.
    """

    def __init__(self, scheduler: Any, slots: int, drafts: int, exact: bool):
        self._scheduler, self._slots, self._drafts, self._exact = scheduler, slots, drafts, exact
        self._kv: dict[tuple[int, int], int] = {}
        self._prefixes: dict[str, list[int]] = {}
        self._written: dict[str, int] = {}
        self.next_drafts: DraftTokenIds | None = None

    def run(self, output: Any, report: Any) -> ModelRunnerOutput:
        """`report` is what a KV connector's worker has to say."""
        ids = list(output.num_scheduled_tokens)
        started = {new.req_id for new in output.scheduled_new_reqs}
        started |= set(output.scheduled_cached_reqs.resumed_req_ids)
        sampled = []
        for name in ids:
            request = self._scheduler.requests[name]
            drafts = len(output.scheduled_spec_decode_tokens.get(name, ()))
            tokens = output.num_scheduled_tokens[name]
            sampled.append(self._compute(request, tokens, drafts, name in started))
        if self._drafts:
            drafted = [[5] * self._drafts if tokens else [] for tokens in sampled]
            self.next_drafts = DraftTokenIds(ids, drafted)
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={name: i for i, name in enumerate(ids)},
            sampled_token_ids=sampled,
            kv_connector_output=report,
        )

    def forget(self, name: str) -> None:
        """The request's tokens changed: a streaming session's next chunk."""
        self._prefixes.pop(name, None)
        self._written.pop(name, None)

    def forget_all(self) -> None:
        """Requests that left; whoever is still there is checked again from its first position."""
        for name in [name for name in self._prefixes if name not in self._scheduler.requests]:
            self.forget(name)

    def _compute(self, request: Any, tokens: int, drafts: int, started: bool) -> list[int]:
        end = request.num_computed_tokens - drafts  # of what is not a draft
        accepted = 0
        if drafts and not started:  # a padded newcomer has none
            accepted = zlib.crc32(f"{request.request_id}{end if self._exact else 0}".encode()) % (drafts + 1)
        if self._slots:
            self._write(request, request.num_computed_tokens - tokens, end + accepted, end + drafts)
        if request.is_prefill_chunk:
            return []
        if not self._exact:
            return [5] * (1 + accepted)
        return [token(request, end + place) for place in range(1 + accepted)]

    def _write(self, request: Any, start: int, end: int, rejected: int) -> None:
        """Positions up to `end` hold what the request's tokens give, up to `rejected` what nobody wants."""
        (blocks,) = self._scheduler.kv_cache_manager.get_block_ids(request.request_id)
        prefixes = self._prefixes.setdefault(request.request_id, [])
        while len(prefixes) < end:
            value = token(request, len(prefixes)).to_bytes(4, "little")
            prefixes.append(zlib.crc32(value, prefixes[-1] if prefixes else 0))
        if self._written.get(request.request_id) != start:
            for position in range(start):
                slot = (blocks[position // self._slots], position % self._slots)
                if self._kv.get(slot) != prefixes[position]:
                    raise StaleKVError(f"position {position} of {end} in slot {slot}")
        for position in range(start, rejected):
            slot = (blocks[position // self._slots], position % self._slots)
            self._kv[slot] = prefixes[position] if position < end else -1
        self._written[request.request_id] = end


def token(request: Any, position: int) -> int:
    """The token at a position: what the request has there, or will have."""
    if position < request.num_tokens:
        return request.all_token_ids[position]
    return answer(request.request_id, position)


def answer(name: str, position: int) -> int:
    """The token that the model gives a request."""
    return (zlib.crc32(name.encode()) + 31 * position) % 2000 + 3


def prompt_of(name: str, length: int, prefix: int) -> list[int]:
    """`prefix` tokens that are everybody's, then the request's own; siblings (`0_r3`, `1_r3`) have the same."""
    own = zlib.crc32(name.rpartition("_")[2].encode())
    return [9] * prefix + [(own + 7 * i) % 2000 + 3 for i in range(length)]
