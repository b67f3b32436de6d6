from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidkv import BidValidationError, PositionalScoring, ScoringStrategy, build_bids

TOKENS = list(range(200))


def test_it_is_a_scoring_strategy() -> None:
    assert isinstance(PositionalScoring(), ScoringStrategy)
    assert not isinstance(object(), ScoringStrategy)


def test_sink_and_recency_outrank_the_middle() -> None:
    scores = PositionalScoring().score(TOKENS)
    assert len(scores) == len(TOKENS)
    assert scores[0] == max(scores)
    assert scores[-1] > scores[len(scores) // 2] > min(scores)
    assert scores[50:] == sorted(scores[50:])


def test_attention_makes_heavy_hitters_and_the_end_important() -> None:
    attention = [0.01] * 100
    attention[30] = attention[31] = 0.5
    attention[40] = 1.0
    scores = PositionalScoring(heavy_ratio=0.03, recent_ratio=0.1).score(
        range(100), attention_pattern=attention
    )
    assert scores[40] == 1.0
    assert scores[30] == scores[31] == 0.7
    assert scores[90:] == [0.6] * 10
    assert scores[0] == pytest.approx(0.01)


def test_ratios_of_zero_leave_plain_attention() -> None:
    scores = PositionalScoring(0.0, 0.0).score(range(4), attention_pattern=[0.0, 1.0, 2.0, 4.0])
    assert scores == [0.0, 0.25, 0.5, 1.0]


def test_bids_follow_the_levels() -> None:
    bids = PositionalScoring().generate_bids("r", TOKENS, [0.2, 0.4, 0.8])
    assert [b.tokens_freed for b in bids] == [40, 80, 160]
    assert [b.bid_id for b in bids] == ["r:bid:0", "r:bid:1", "r:bid:2"]
    assert bids[0].quality_delta < bids[1].quality_delta < bids[2].quality_delta
    assert [b.metadata["compression_level"] for b in bids] == [0.2, 0.4, 0.8]


def test_delta_is_the_mean_score_of_what_is_dropped() -> None:
    (bid,) = build_bids("r", [0.1, 0.9, 0.5, 0.3, 0.7], [0.4], "any")
    assert bid.tokens_freed == 2
    assert bid.quality_delta == pytest.approx(0.2)


def test_attention_raises_confidence() -> None:
    scoring = PositionalScoring()
    (blind,) = scoring.generate_bids("r", TOKENS, [0.5])
    (seeing,) = scoring.generate_bids("r", TOKENS, [0.5], attention_pattern=[1.0] * len(TOKENS))
    assert seeing.confidence > blind.confidence


def test_too_short_requests_have_no_bids() -> None:
    assert PositionalScoring().score([]) == []
    assert PositionalScoring().generate_bids("r", [], [0.5]) == []
    assert PositionalScoring().generate_bids("r", [7], [0.5]) == []
    assert [b.tokens_freed for b in PositionalScoring().generate_bids("r", [7, 8], [0.01, 0.99])] == [1, 1]


def test_bad_values_are_refused() -> None:
    for ratios in ((1.5, 0.0), (0.2, -0.1), (0.6, 0.5)):
        with pytest.raises(BidValidationError, match="ratio"):
            PositionalScoring(*ratios)
    for level in (0.0, 1.0, -0.2):
        with pytest.raises(BidValidationError, match="compression_levels"):
            PositionalScoring().generate_bids("r", TOKENS, [level])
    with pytest.raises(BidValidationError, match="attention_pattern"):
        PositionalScoring().score(TOKENS, attention_pattern=[1.0])
    with pytest.raises(BidValidationError, match="attention_pattern"):
        PositionalScoring().score([1, 2], attention_pattern=[1.0, float("nan")])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_scores_stay_in_range(weights: list[float]) -> None:
    scoring = PositionalScoring()
    for scores in (scoring.score(weights), scoring.score(weights, attention_pattern=weights)):
        assert len(scores) == len(weights)
        assert all(0 <= score <= 1 for score in scores)
