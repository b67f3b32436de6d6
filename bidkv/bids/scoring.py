"""How much each token of a request matters, and the bids that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

from bidkv.bids.protocol import CompressionBid, make_bid_id
from bidkv.errors import BidValidationError

_MS_PER_TOKEN = 0.1  # assumed cost of dropping one token's KV
_HEAVY_FLOOR = 0.7  # a heavy hitter scores at least this
_RECENT_FLOOR = 0.6  # a recent token scores at least this
_BLIND_CONFIDENCE = 0.3  # from positions alone
_ATTENTION_CONFIDENCE = 0.6  # from supplied attention


@runtime_checkable
class ScoringStrategy(Protocol):
    """Anything with this `score`; no base class needed."""

    def score(self, token_ids: Sequence[int], **context: Any) -> list[float]:
        """One score in [0, 1] for each token, higher = more important."""
        ...


class PositionalScoring:
    """Scores by position, or by attention where the caller supplies it.

    Position alone: the first tokens are attention sinks (Xiao et al., arXiv 2309.17453), the last ones
    recent context. With `attention_pattern` (one cumulated weight >= 0 for each token): the
    `heavy_ratio` share with most attention and the `recent_ratio` share at the end are kept high (H2O,
    arXiv 2306.14048). Keeps no state.
    """

    algorithm_id = "positional"

    def __init__(self, heavy_ratio: float = 0.2, recent_ratio: float = 0.2):
        for key, value in (("heavy_ratio", heavy_ratio), ("recent_ratio", recent_ratio)):
            if not 0 <= value <= 1:
                raise BidValidationError(f"{key} must be in [0, 1], got {value}")
        if heavy_ratio + recent_ratio > 1:
            raise BidValidationError(
                f"heavy_ratio + recent_ratio must be <= 1, got {heavy_ratio + recent_ratio}"
            )
        self.heavy_ratio = heavy_ratio
        self.recent_ratio = recent_ratio

    def score(
        self, token_ids: Sequence[int], *, attention_pattern: Sequence[float] | None = None, **context: Any
    ) -> list[float]:
        if attention_pattern is None:
            return _by_position(len(token_ids))
        if len(attention_pattern) != len(token_ids):
            raise BidValidationError(
                f"attention_pattern must have one weight for each of {len(token_ids)} tokens, "
                f"got {len(attention_pattern)}"
            )
        return self._by_attention(attention_pattern)

    def generate_bids(
        self, request_id: str, token_ids: Sequence[int], compression_levels: Sequence[float], **context: Any
    ) -> list[CompressionBid]:
        """One bid for each level, the share of tokens to drop in (0, 1); none for fewer than two tokens."""
        seen = context.get("attention_pattern") is not None
        return build_bids(
            request_id,
            self.score(token_ids, **context),
            compression_levels,
            self.algorithm_id,
            confidence=_ATTENTION_CONFIDENCE if seen else _BLIND_CONFIDENCE,
        )

    def _by_attention(self, weights: Sequence[float]) -> list[float]:
        if any(not weight >= 0 for weight in weights):
            raise BidValidationError("attention_pattern must hold weights >= 0")
        count = len(weights)
        top = max(weights, default=0.0) or 1.0
        scores = [weight / top for weight in weights]
        order = sorted(range(count), key=weights.__getitem__, reverse=True)
        for index in order[: round(count * self.heavy_ratio)]:
            scores[index] = max(scores[index], _HEAVY_FLOOR)
        for index in range(count - round(count * self.recent_ratio), count):
            scores[index] = max(scores[index], _RECENT_FLOOR)
        return scores


def build_bids(
    request_id: str,
    scores: Sequence[float],
    compression_levels: Sequence[float],
    algorithm_id: str,
    confidence: float = 0.5,
) -> list[CompressionBid]:
    """Bids that drop the least important tokens: r = their number, delta = their mean score.

    `compression_levels` are shares in (0, 1). At least one token is dropped and one kept; a request of
    fewer than two tokens has no bids. Works with the scores of any `ScoringStrategy`.
    """
    count = len(scores)
    for level in compression_levels:
        if not 0 < level < 1:
            raise BidValidationError(f"compression_levels must be in (0, 1), got {level}")
    if count < 2:
        return []
    lost = list(accumulate(sorted(scores)))  # lost[n - 1] = the summed score of the n least important
    bids = []
    for number, level in enumerate(compression_levels):
        freed = min(max(1, int(count * level)), count - 1)
        bids.append(
            CompressionBid(
                bid_id=make_bid_id(request_id, number),
                request_id=request_id,
                algorithm_id=algorithm_id,
                tokens_freed=freed,
                quality_delta=max(0.0, lost[freed - 1] / freed),
                compress_latency_ms=_MS_PER_TOKEN * freed,
                confidence=confidence,
                metadata={"compression_level": level},
            )
        )
    return bids


def _by_position(count: int) -> list[float]:
    """The larger of a sink that decays over the first twentieth and a recency that rises to the end."""
    reach, last = max(1.0, count / 20), max(1, count - 1)
    return [max(0.8 * math.exp(-i / reach), _RECENT_FLOOR * (i / last)) for i in range(count)]
