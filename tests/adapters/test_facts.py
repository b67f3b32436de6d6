"""What clients declare: any object at all gives valid values or none, and nothing where nobody asked for it."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidkv.adapters.shared.facts import (
    ARRIVAL_S,
    DEADLINE_S,
    KEYS,
    LARGEST,
    LONGEST_SESSION,
    NOTHING,
    FactsReader,
    client_facts,
)
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.workload.trace import TraceRequest

MOST, T = 4000, 1_700_000_000.0


class Evil(int):
    """A number whose methods raise, as a stand-in for what a client can never be held to."""

    def raising(self, *_: Any) -> Any:
        raise RuntimeError("called")

    __int__ = __index__ = __float__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = raising
    __hash__ = int.__hash__


class EvilDict(dict):
    get = items = __len__ = __iter__ = __getitem__ = Evil.raising


class EvilText(str):
    __len__ = __str__ = __eq__ = Evil.raising
    __hash__ = str.__hash__


odd = st.sampled_from([10**400, -(10**400), 1e999, -1e18, True])
numbers = st.one_of(st.integers(), st.floats(), odd, st.builds(Evil, st.integers()))
leaves = st.one_of(
    numbers, st.none(), st.text(), st.binary(), st.builds(object), st.builds(EvilText, st.text(min_size=1))
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.one_of(st.text(), st.binary(), st.integers()), inner),
        st.sets(st.text()),
    ),
)
declarations = st.one_of(
    anything,
    st.dictionaries(st.sampled_from([*KEYS, "other", b"max_tokens", 3]), anything),
    st.fixed_dictionaries({}, optional={key: numbers for key in KEYS}),
)


@given(declarations, st.integers(1, 2**40), st.floats(0, 1e10))
def test_any_object_at_all_gives_valid_values_or_none(declared: Any, most: int, arrival: float) -> None:
    for given_object in (declared, EvilDict(declared) if type(declared) is dict else declared):
        facts, problems = client_facts(given_object, most, arrival)
        for tokens in (facts.max_tokens, facts.true_output_tokens):
            assert tokens is None or (type(tokens) is int and 1 <= tokens <= most)
        for time, seconds in ((facts.arrival, ARRIVAL_S), (facts.deadline, DEADLINE_S)):
            assert time is None or (type(time) is float and abs(time - arrival) <= seconds * (1 + 1e-9))
        assert facts.turn is None or (type(facts.turn) is int and 0 <= facts.turn <= LARGEST)
        assert facts.priority is None or (type(facts.priority) is int and abs(facts.priority) <= LARGEST)
        assert facts.session is None or (type(facts.session) is str and len(facts.session) <= LONGEST_SESSION)
        assert set(problems) <= {*KEYS, "?"}


@pytest.mark.parametrize(
    ("declared", "expected", "problems"),
    [
        ({"max_tokens": 1e999}, {}, ["max_tokens"]),
        ({"max_tokens": math.nan}, {}, ["max_tokens"]),
        ({"max_tokens": -5}, {"max_tokens": 1}, ["max_tokens"]),
        ({"max_tokens": 10**30}, {"max_tokens": MOST}, ["max_tokens"]),
        ({"max_tokens": True}, {}, ["max_tokens"]),
        ({"max_tokens": "7"}, {}, ["max_tokens"]),
        ({"max_tokens": 7.0}, {"max_tokens": 7}, []),
        ({"arrival": math.nan}, {}, ["arrival"]),
        ({"arrival": -1e18}, {"arrival": T - ARRIVAL_S}, ["arrival"]),
        ({"arrival": 10**400}, {"arrival": T + ARRIVAL_S}, ["arrival"]),
        ({"arrival": T - 5}, {"arrival": T - 5}, []),
        ({"deadline": -math.inf}, {}, ["deadline"]),
        ({"deadline": np.float64(T + 9)}, {"deadline": T + 9}, []),
        ({"turn": 1.5, "session": 5}, {}, ["session", "turn"]),
        ({"turn": -1}, {}, ["turn"]),
        ({"session": "x" * 10_000_000}, {}, ["session"]),
        ({b"max_tokens": 4, "speed": 9}, {}, ["?"]),
        ({"deadline": None}, {}, []),
        ({str(i): i for i in range(1000)}, {}, ["?"]),
        ([("max_tokens", 3)], {}, ["?"]),
        ("text", {}, ["?"]),
    ],
)
def test_each_value_is_left_out_or_limited_and_named(
    declared: Any, expected: dict, problems: list[str]
) -> None:
    facts, named = client_facts(declared, MOST, T)
    assert {key: getattr(facts, key) for key in KEYS if getattr(facts, key) is not None} == expected
    assert named == problems


def test_what_the_benchmarks_clients_declare_comes_through() -> None:
    request = TraceRequest("r", 0.0, np.array([3, 4]), 2, 5, session="talk-00001", turn=3, deadline_s=2.0)
    declared = json.loads(json.dumps(request_facts(request, now=T)))
    facts, problems = client_facts(declared, MOST, T)
    assert (facts.max_tokens, facts.session, facts.turn, facts.deadline) == (5, "talk-00001", 3, T + 2)
    assert not problems
    assert (
        client_facts(request_facts(TraceRequest("r", 0.0, np.array([3]), 2, 5), T), MOST, T)[0].session
        is None
    )


def reader(client_facts: bool) -> tuple[FactsReader, Counter]:
    counters: Counter = Counter()
    session = SimpleNamespace(
        settings=AdapterSettings("lcf", client_facts=client_facts), log=SimpleNamespace(counters=counters)
    )
    return FactsReader(session, "there"), counters


def test_nothing_is_taken_unless_asked_for_and_that_is_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts, counters = reader(client_facts=False)
    with caplog.at_level(logging.WARNING):
        for declared in ({"max_tokens": 5}, {"arrival": math.nan}, "text", None, {}):
            assert facts.read(declared, MOST, T) is NOTHING
    assert counters == {"facts_ignored": 3}
    (record,) = caplog.records
    assert "declare facts in there" in record.getMessage() and "--bidkv-client-facts" in record.getMessage()


def test_what_is_limited_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    facts, counters = reader(client_facts=True)
    with caplog.at_level(logging.WARNING):
        for declared in ({"max_tokens": 10**9}, {"max_tokens": 10**8}, {"max_tokens": 5}, {"evil\nname": 1}):
            facts.read(declared, MOST, T)
    assert counters == {"facts_limited": 3}
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["max_tokens", "?"]
    assert facts.read({"max_tokens": 5}, MOST, T).max_tokens == 5
