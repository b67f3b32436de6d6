"""What a request says of itself reaches the account: at its start, and with each input of a streaming session."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import scheduler_bench as bench
from vllm import SamplingParams
from vllm.v1.request import Request, RequestStatus

HOSTILE = [
    {"max_tokens": math.inf},
    {"max_tokens": math.nan},
    {"max_tokens": -5},
    {"max_tokens": 2**62},
    {"true_output_tokens": math.inf},
    {"true_output_tokens": -1e300},
    {"arrival": math.nan},
    {"arrival": -1e18},
    {"deadline": math.inf},
    {"turn": 1.5, "session": 5},
    {"session": "x" * 100_000},
    {"max_tokens": [[]], "arrival": {}, b"x": 1},
]


def state_of(machine: bench.SchedulerBench, request: Request) -> Any:
    return machine.scheduler._bidkv_account(request).state


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("strategy", ["backfill", "backfill_oracle", "slack_aware", "hrrn"])
def test_whatever_one_client_declares_all_are_served_in_their_order(
    tiny_model: Path, strategy: str, taken: bool
) -> None:
    machine = bench.SchedulerBench(tiny_model, {"strategy": strategy, "client_facts": taken})
    for number, facts in enumerate(HOSTILE):
        machine.add(f"before{number}", [5] * 200, 20)
        request = machine.add(f"evil{number}", [6] * 200, 20)
        request.sampling_params.extra_args = {"bidkv": facts}
        machine.scheduler._bidkv_accounts.pop(request.request_id)
        state = state_of(machine, request)
        assert 1 <= state.max_tokens <= 1024 and abs(state.arrival - request.arrival_time) <= 60
        if not taken:
            assert (state.max_tokens, state.arrival) == (20, request.arrival_time)
            assert (state.deadline, state.session, state.turn) == (None, None, None)
    machine.run()
    session = machine.scheduler._bidkv_session
    assert session.log.counters["facts_limited" if taken else "facts_ignored"] == len(HOSTILE)
    assert not session.log.counters["strategy_errors"] and not session.admission_failed
    for request in machine.requests.values():
        assert list(request.output_token_ids) == machine.expected_output(request)


@pytest.mark.parametrize("busy", [False, True], ids=["while it waits for input", "while it runs"])
def test_the_next_input_of_a_streaming_session_is_taken_over(tiny_model: Path, busy: bool) -> None:
    machine = bench.SchedulerBench(tiny_model, {"strategy": "lcf"})

    def part(prompt: list[int], tokens: int, arrival: float, **facts: Any) -> Request:
        return Request(
            request_id="talk-0123abcd",
            prompt_token_ids=prompt,
            sampling_params=SamplingParams(
                temperature=0, max_tokens=tokens, ignore_eos=True, extra_args={"bidkv": facts}
            ),
            pooling_params=None,
            arrival_time=arrival,
            resumable=True,
        )

    first = part([5] * 40, 3, 1.0, turn=0)
    machine.scheduler.add_request(first)
    account = machine.scheduler._bidkv_account(first)
    assert (account.state.prompt_tokens, account.state.max_tokens, account.state.turn) == (40, 3, 0)
    for _ in range(1 if busy else 8):
        machine.step()
    assert (first.status == RequestStatus.WAITING_FOR_STREAMING_REQ) is not busy
    machine.scheduler.add_request(part([7] * 30, 9, 5.0, turn=1, max_tokens=50))
    for _ in range(8 if busy else 0):
        machine.step()
    state = account.state
    assert machine.scheduler._bidkv_account(first) is account
    assert state.prompt_tokens == first.num_prompt_tokens > 70
    assert (state.max_tokens, state.arrival, state.turn) == (50, 5.0, 1)
    assert (account.arrival_t, account.input_t) == (1.0, 5.0), "when it came, and its latest input"
