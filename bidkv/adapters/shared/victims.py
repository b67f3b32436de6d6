"""Checks the victim a policy chose and describes the choice for the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.strategies.base import VictimPolicy
from bidkv.utility import compute_utility, disruption


@dataclass(frozen=True, slots=True)
class Pick:
    """A policy's victim, its score of it (see `score_of`) and how long `select` took."""

    victim: RequestState
    score: Any
    select_ns: int


def pick_victim(policy: VictimPolicy, candidates: Sequence[RequestState], now: float) -> Pick:
    """Asks the policy; what it raises passes through, as does `check_victim`'s `BidValidationError`."""
    start = perf_counter_ns()
    victim = policy.select(candidates, now)
    select_ns = perf_counter_ns() - start
    check_victim(policy, victim, candidates)
    return Pick(victim, score_of(policy, victim, now), select_ns)


def check_victim(policy: VictimPolicy, victim: Any, candidates: Sequence[RequestState]) -> RequestState:
    """The victim itself; raises `BidValidationError` if it is none of the candidates."""
    if not any(victim is candidate for candidate in candidates):
        name = getattr(victim, "request_id", victim)
        raise BidValidationError(f"{policy.name}: chose {name!r}, which is not a candidate")
    return victim


def describe_candidates(candidates: Sequence[RequestState]) -> list[dict[str, Any]]:
    """What the policy saw, as it goes into the event."""
    return [
        {
            "id": c.request_id,
            "computed": c.computed_tokens,
            "prompt": c.prompt_tokens,
            "output": c.output_tokens,
            "max_tokens": c.max_tokens,
            "private_blocks": c.private_blocks,
            "preemptions": c.preemptions,
        }
        for c in candidates
    ]


def describe_victim(victim: RequestState) -> dict[str, Any]:
    """Nominal cost of the victim and BidKV's prediction of it, for calibration under any policy."""
    delta = disruption(victim)
    return {
        "victim": victim.request_id,
        "tokens_freed": victim.computed_tokens,
        "delta": delta,
        "utility": compute_utility(victim.computed_tokens, delta),
    }


def score_of(policy: VictimPolicy, victim: RequestState, now: float) -> Any:
    """The policy's own score of its victim: a finite number, a list of numbers, or None."""
    score = getattr(policy, "score", None)
    if score is None:
        return None
    value = score(victim, now)
    values = value if isinstance(value, (tuple, list)) else [value]
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        return None
    return list(value) if isinstance(value, (tuple, list)) else value
