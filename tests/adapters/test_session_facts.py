"""What a client says of a request's session reaches the policy, and nothing else does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bidkv.adapters.shared.accounting import numbers, session_facts
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.workload.trace import TraceRequest


def test_the_clients_facts_become_the_states_session_and_turn() -> None:
    request = TraceRequest("r", 0.0, np.array([3, 4]), 2, 5, session="talk-00001", turn=3)
    facts = request_facts(request, now=10.0)
    assert session_facts(facts) == {"session": "talk-00001", "turn": 3}
    assert numbers(facts) == {"max_tokens": 5, "turn": 3}


def test_a_request_without_a_session_says_nothing_of_it() -> None:
    facts = request_facts(TraceRequest("r", 0.0, np.array([3]), 2, 5), now=10.0)
    assert facts == {"max_tokens": 5}
    assert session_facts(facts) == {"session": None, "turn": None}


@pytest.mark.parametrize("facts", [None, "text", {"session": 7, "turn": "1"}, {"turn": math.nan}])
def test_what_is_no_session_is_left_out(facts) -> None:
    assert session_facts(facts) == {"session": None, "turn": None}
