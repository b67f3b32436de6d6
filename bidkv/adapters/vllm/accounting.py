"""What a vLLM request says about itself: its id, the facts it declares, how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount, numbers, session_facts
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


def declared_facts(request: Any) -> Mapping[str, Any]:
    """The numbers of `declared` (see `numbers`)."""
    return numbers(declared(request))


def open_account(request: Any, name: str, oracle: bool) -> RequestAccount:
    """An account with the facts of a vLLM request that never change; an `oracle` sees its true length."""
    facts = declared_facts(request)
    state = RequestState(
        request_id=name,
        computed_tokens=request.num_computed_tokens,
        prompt_tokens=request.num_prompt_tokens,
        max_tokens=int(facts.get("max_tokens", request.max_tokens)),
        arrival=float(facts.get("arrival", request.arrival_time)),
        priority=request.priority,
        deadline=facts.get("deadline"),
        **session_facts(declared(request)),
    )
    length = int(facts.get("true_output_tokens", request.max_tokens))
    account = RequestAccount(state, arrival_t=request.arrival_time, true_output_tokens=length)
    account.show_to(oracle)
    return account


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
