"""Checks the victim a policy chose and describes the choice for the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.utility import compute_utility, disruption
from bidkv.victim.base import VictimPolicy


@dataclass(frozen=True, slots=True)
class Pick:
    """A policy's victim, its place among the candidates, its score (see `score_of`), how long `select` took."""

    victim: RequestState
    place: int
    score: Any
    select_ns: int


def pick_victim(
    policy: VictimPolicy, candidates: Sequence[RequestState], now: float, needed_tokens: int
) -> Pick:
    """Asks the policy for its next victim while `needed_tokens` KV tokens are short.

    What it raises passes through, as does `check_victim`'s `BidValidationError`.
    """
    start = perf_counter_ns()
    if policy.batches and needed_tokens > 0:
        victim = policy.select_batch(candidates, needed_tokens, now)[0]
    else:
        victim = policy.select(candidates, now)
    select_ns = perf_counter_ns() - start
    place = check_victim(policy, victim, candidates)
    return Pick(victim, place, score_of(policy, victim, now), select_ns)


def check_victim(policy: VictimPolicy, victim: Any, candidates: Sequence[RequestState]) -> int:
    """The victim's place; raises `BidValidationError` if it is none of the candidates."""
    try:
        return [*map(id, candidates)].index(id(victim))
    except ValueError:
        name = getattr(victim, "request_id", victim)
        raise BidValidationError(f"{policy.name}: chose {name!r}, which is not a candidate") from None


CANDIDATE = ("id", "computed", "prompt", "output", "max_tokens", "private_blocks", "preemptions")
"""What an event says of each candidate."""

CandidateRow = tuple[str, int, int, int, int, int | None, int]
"""The values of `CANDIDATE`; they are named when the event is written, which is after the step."""


def candidate_rows(candidates: Sequence[RequestState]) -> list[CandidateRow]:
    """What the policy saw."""
    return [
        (c.request_id, c.computed_tokens, c.prompt_tokens, c.output_tokens, c.max_tokens, c.private_blocks,
         c.preemptions)
        for c in candidates
    ]  # fmt: skip


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
