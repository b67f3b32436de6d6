from __future__ import annotations

import numpy as np
import pytest
from helpers_workload import VOCAB, component, freeze, mixture

from ray_jobs.workload.config import ArrivalConfig, SourceConfig
from ray_jobs.workload.sources.shared.base import SegmentPrompt, TokenMaker
from ray_jobs.workload.trace import Trace


def shape(trace: Trace) -> list[tuple]:
    """All but the arrivals."""
    return [
        (r.request_id, r.prompt_token_ids.tobytes(), r.output_tokens, r.max_tokens, r.kind)
        for r in trace.requests
    ]


def test_the_same_configuration_and_seed_give_the_same_trace() -> None:
    assert freeze(mixture()).hash == freeze(mixture()).hash
    assert freeze(mixture(), seed=1).hash != freeze(mixture(), seed=0).hash


def test_a_known_trace_keeps_its_hash() -> None:
    """A change here breaks the comparison with every run recorded before."""
    assert freeze(mixture()).hash == "4e187b8247dd728cd72de6f14e14a4f395426e8c487cc4ef459c7a7353a9452d"


def test_another_rate_keeps_the_prompts_and_lengths() -> None:
    slow, fast = freeze(mixture(rate=1.0)), freeze(mixture(rate=4.0))
    assert shape(slow) == shape(fast)
    assert slow.hash != fast.hash
    assert [r.arrival_s for r in slow.requests] == pytest.approx([4 * r.arrival_s for r in fast.requests])
    bursty = freeze(mixture(arrivals=ArrivalConfig(kind="gamma", burstiness=0.3)))
    assert shape(bursty) == shape(slow)


def test_more_requests_begin_with_the_fewer() -> None:
    few, many = freeze(mixture(num_requests=20)), freeze(mixture(num_requests=60))
    assert shape(many)[:20] == shape(few)
    assert [r.arrival_s for r in many.requests][:20] == pytest.approx([r.arrival_s for r in few.requests])


def test_other_outputs_keep_the_prompts() -> None:
    longer = mixture(
        source=SourceConfig(components={"chat": component(output=90), "qa": component(40, 8, weight=0.5)})
    )
    for a, b in zip(freeze(mixture()).requests, freeze(longer).requests, strict=True):
        assert np.array_equal(a.prompt_token_ids, b.prompt_token_ids)


def test_tokens_are_in_the_vocabulary_and_not_shared() -> None:
    trace = freeze(mixture(), vocab=50)
    tokens = np.concatenate([r.prompt_token_ids for r in trace.requests])
    assert tokens.dtype == np.int32 and tokens.min() == 3 and tokens.max() == 49
    starts = {
        r.prompt_token_ids[:8].tobytes() for r in freeze(mixture()).requests if len(r.prompt_token_ids) >= 8
    }
    assert len(starts) > 40


def test_a_shared_prefix_is_shared_within_a_kind_alone() -> None:
    parts = {"a": component(shared_prefix=16), "b": component(shared_prefix=16), "c": component()}
    trace = freeze(mixture(num_requests=100, source=SourceConfig(components=parts)))
    starts = {
        kind: {
            r.prompt_token_ids[:16].tobytes()
            for r in trace.requests
            if r.kind == kind and len(r.prompt_token_ids) > 16
        }
        for kind in parts
    }
    assert len(starts["a"]) == len(starts["b"]) == 1 and starts["a"] != starts["b"]
    assert len(starts["c"]) > 10
    assert (
        len({r.prompt_token_ids[16:24].tobytes() for r in trace.requests if len(r.prompt_token_ids) > 30})
        > 50
    )


def test_a_shorter_segment_is_the_front_of_a_longer_one_in_any_order() -> None:
    first, second = TokenMaker(0, VOCAB), TokenMaker(0, VOCAB)
    short = first.segment(("block", 1), 5, keep=True)
    assert np.array_equal(first.segment(("block", 1), 50, keep=True)[:5], short)
    assert np.array_equal(second.segment(("block", 1), 50, keep=True)[:5], short)
    assert np.array_equal(second.segment(("block", 1), 5, keep=True), short)


def test_cutting_keeps_the_front() -> None:
    prompt = SegmentPrompt((("block", 1), ("block", 2), ("block", 3)), (10, 10, 4), shared=True)
    maker = TokenMaker(0, VOCAB)
    for length in (1, 10, 11, 20, 23, 24, 99):
        cut = prompt.cut(length)
        assert len(cut) == min(length, 24)
        assert np.array_equal(cut.tokens(maker), prompt.tokens(maker)[:length])


def test_warmup_by_count_and_by_time() -> None:
    by_count = [r.warmup for r in freeze(mixture(warmup_requests=5)).requests]
    assert by_count == [True] * 5 + [False] * 55
    by_time = freeze(mixture(warmup_s=3.0)).requests
    assert [r.warmup for r in by_time] == [r.arrival_s < 3.0 for r in by_time]
    assert 0 < sum(r.warmup for r in by_time) < 60


def test_priorities_and_deadlines_reach_the_requests() -> None:
    parts = {"a": component(priority=2, deadline_s=5.0), "b": component()}
    trace = freeze(mixture(source=SourceConfig(components=parts)))
    assert {(r.kind, r.priority, r.deadline_s) for r in trace.requests} == {("a", 2, 5.0), ("b", 0, None)}


def test_too_long_requests() -> None:
    long = {"a": component(600), "b": component(60)}
    make = lambda fit: mixture(fit=fit, source=SourceConfig(components=long))  # noqa: E731
    with pytest.raises(
        ValueError,
        match="workload.fit='error': must be truncate or drop: request .* engine.max_model_len=500",
    ):
        freeze(make("error"), model_len=500)
    whole = freeze(make("error"))
    cut, dropped = freeze(make("truncate"), model_len=500), freeze(make("drop"), model_len=500)
    fits = [len(r.prompt_token_ids) + r.output_tokens <= 500 for r in whole.requests]
    assert 0 < sum(fits) < len(fits)
    assert cut.meta["truncated"] == fits.count(False) and cut.meta["dropped"] == 0
    assert dropped.meta == {**whole.meta, "max_model_len": 500, "dropped": fits.count(False)}
    assert len(dropped.requests) == sum(fits)
    for trace in (cut, dropped):
        assert all(len(r.prompt_token_ids) + r.max_tokens <= 500 for r in trace.requests)
    for new, old, fit in zip(cut.requests, whole.requests, fits, strict=True):
        assert np.array_equal(new.prompt_token_ids, old.prompt_token_ids[: len(new.prompt_token_ids)])
        assert new.output_tokens == old.output_tokens
        assert fit or len(new.prompt_token_ids) + new.output_tokens == 500
    tiny = freeze(make("truncate"), model_len=20)
    assert (
        max(r.output_tokens for r in tiny.requests) <= 19
        and min(len(r.prompt_token_ids) for r in tiny.requests) >= 1
    )
    with pytest.raises(ValueError, match="workload.fit='drop'.*every request would be dropped"):
        freeze(make("drop"), model_len=2)


def test_prompts_can_be_capped() -> None:
    capped = freeze(mixture(fit="truncate", max_prompt_tokens=50))
    assert max(len(r.prompt_token_ids) for r in capped.requests) == 50
    with pytest.raises(ValueError, match="workload.max_prompt_tokens=50"):
        freeze(mixture(max_prompt_tokens=50))


def test_nothing_left_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="workload.warmup_s=1000.0.*nothing is measured"):
        freeze(mixture(warmup_s=1000.0))


def test_a_vocabulary_too_small_is_an_error() -> None:
    with pytest.raises(ValueError, match="engine.vocab_size=4"):
        freeze(mixture(), vocab=4)


def test_model_len_bounds_what_is_declared() -> None:
    trace = freeze(mixture(), model_len=450)
    assert all(r.output_tokens <= r.max_tokens <= 450 - len(r.prompt_token_ids) for r in trace.requests)
    assert any(r.max_tokens == 450 - len(r.prompt_token_ids) for r in trace.requests)
