"""The BidKV utility U(r, delta) = r / (delta + epsilon) and its surrogate of disruption."""

from __future__ import annotations

from bidkv.request import RequestState

EPSILON = 1e-3
COMPLETION_WEIGHT = 0.5
PREEMPTION_WEIGHT = 0.3


def compute_utility(tokens_freed: float, quality_delta: float) -> float:
    """U(r, delta): KV tokens freed per unit of predicted disruption."""
    return tokens_freed / (quality_delta + EPSILON)


def disruption(
    request: RequestState,
    completion_weight: float = COMPLETION_WEIGHT,
    preemption_weight: float = PREEMPTION_WEIGHT,
) -> float:
    """The surrogate delta = 1 + 0.5 * completion + 0.3 * preemptions (no unit)."""
    return 1.0 + completion_weight * request.completion + preemption_weight * request.preemptions
