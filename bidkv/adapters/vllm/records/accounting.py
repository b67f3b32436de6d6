"""What a vLLM request says about itself: its id, the facts it declares, how it ended."""

from __future__ import annotations

import re
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.clock import steadied
from bidkv.adapters.shared.facts import FactsReader
from bidkv.request import RequestState

_ENGINE_SUFFIX = re.compile(r"-[0-9a-f]{8}$")


def client_id(request_id: str, randomized: bool) -> str:
    """The id the client gave; vLLM appends eight hexadecimal digits unless told not to."""
    return _ENGINE_SUFFIX.sub("", request_id) if randomized else request_id


def declared(request: Any) -> Any:
    """What is under `extra_args["bidkv"]` of a vLLM request."""
    params = request.sampling_params
    extra = params.extra_args if params is not None else None
    return extra.get("bidkv") if isinstance(extra, dict) else None


def open_account(
    request: Any, name: str, oracle: bool, reader: FactsReader, max_model_len: int
) -> RequestAccount:
    """An account of a vLLM request; an `oracle` sees its true length."""
    state = RequestState(request_id=name, computed_tokens=request.num_computed_tokens, prompt_tokens=0)
    account = RequestAccount(state, arrival_t=steadied(request.arrival_time))
    update_account(account, request, reader, max_model_len)
    account.show_to(oracle)
    return account


def update_account(account: RequestAccount, request: Any, reader: FactsReader, max_model_len: int) -> None:
    """Takes over what the request says of itself now: a streaming session's changes with each of its inputs.

    What the account counts stays, and so does when the request first arrived.
    """
    account.input_t = steadied(request.arrival_time)
    room = max(1, request.max_tokens, max_model_len - request.num_prompt_tokens)
    facts = reader.read(declared(request), room, request.arrival_time)
    state, shown = account.state, account.state.true_output_tokens is not None
    state.prompt_tokens = request.num_prompt_tokens
    state.max_tokens = request.max_tokens if facts.max_tokens is None else facts.max_tokens
    state.arrival = steadied(request.arrival_time if facts.arrival is None else facts.arrival)
    state.priority = request.priority
    state.deadline = None if facts.deadline is None else steadied(facts.deadline)
    state.session, state.turn = facts.session, facts.turn
    account.true_pause_s, account.pause_s = facts.true_pause_s, facts.pause_s
    true_tokens = facts.true_output_tokens
    account.true_output_tokens = request.max_tokens if true_tokens is None else true_tokens
    account.show_to(shown)


def request_record(account: RequestAccount, request: Any, finish_t: float) -> dict[str, Any]:
    """The `request` event of a vLLM request that left the engine, without its type."""
    reason = request.get_finished_reason()
    return account.record(
        prompt=request.num_prompt_tokens,
        output=request.num_output_tokens,
        preemptions=request.num_preemptions,
        reason=None if reason is None else str(reason),
        finish_t=finish_t,
    )
