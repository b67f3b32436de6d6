"""What SGLang's retraction tells a policy of the shortfall; needs no SGLang."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bidkv import RequestState, create_default_registry
from bidkv.adapters.sglang.retraction import Retraction
from bidkv.request import PoolState

PRIVATE = {"a": 40, "b": 60, "c": 300}
FREE = 10


def picked(strategy: str, short: int) -> tuple[str, int]:
    """The victims in order, and the shortfall that the last of them was chosen for."""
    states = [
        RequestState(name, n, n, 0, 100, private_tokens=n, private_blocks=n, total_blocks=n)
        for name, n in PRIVATE.items()
    ]
    batch = SimpleNamespace(
        reqs=[SimpleNamespace(rid=name) for name in PRIVATE],
        new_tokens_required_next_decode=lambda kept: FREE + short,
    )
    pool = SimpleNamespace(
        measure=lambda *_: None, retire=lambda *_: None, reclaimable_tokens=lambda: FREE, page_size=1
    )
    policies, state = create_default_registry().get(strategy), PoolState()
    policies.bind(state)
    retraction = Retraction(batch, pool, states, records=False)
    retraction.pick(policies.victim, state)
    order = retraction.order([0, 1, 2])[::-1]
    return "".join("abc"[i] for i in order), state.shortfall_tokens


@pytest.mark.parametrize(
    ("strategy", "short", "first", "last_shortfall"),
    [
        ("lcf-guard", 60, "ab", 20),  # the least computed, whatever is short
        ("residual-cost", 60, "b", 60),  # one that is enough, rather than two
        ("residual-cost", 330, "ac", 290),  # c alone is not enough, and b would be in vain
        ("bidkv2", 60, "b", 60),  # no more than the shortfall counts
        ("bidkv", 60, "c", 60),  # what it repairs: the most that is freed
    ],
)
def test_policies_hear_what_is_short(strategy: str, short: int, first: str, last_shortfall: int) -> None:
    order, shortfall = picked(strategy, short)
    assert order.startswith(first) and shortfall == last_shortfall
