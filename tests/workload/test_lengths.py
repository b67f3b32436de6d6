from __future__ import annotations

import math

import numpy as np
import pytest
from helpers_workload import component, freeze, mixture
from scipy import stats

from ray_jobs.workload.config import DeclaredConfig, SourceConfig
from ray_jobs.workload.length_config import LengthConfig
from ray_jobs.workload.lengths import declared_tokens, draw_lengths


def draw(count: int = 20_000, **settings) -> np.ndarray:
    return draw_lengths(LengthConfig(**settings), np.random.default_rng(0).random(count))


def test_lengths_follow_the_lognormal() -> None:
    own = draw(median=400, sigma=0.6, min=1, max=100_000)
    assert np.median(own) == pytest.approx(400, rel=0.03)
    assert np.log(own).std() == pytest.approx(0.6, rel=0.03)
    assert stats.kstest(np.log(own), stats.norm(math.log(400), 0.6).cdf).pvalue > 1e-3


def test_lengths_are_cut_off_and_not_piled_up_at_the_bounds() -> None:
    own = draw(median=100, sigma=1.0, min=50, max=200)
    assert own.min() == 50 and own.max() == 200
    assert np.mean(own == 200) < 0.02 and np.mean(own == 50) < 0.04


def test_extreme_uniforms_stay_in_bounds() -> None:
    config = LengthConfig(median=10, sigma=3.0, min=1, max=20)
    assert list(draw_lengths(config, np.array([0.0, np.nextafter(1.0, 0.0)]))) == [1, 20]
    assert set(draw(count=10, median=7.4, sigma=0.0, min=1, max=9)) == {7}


def test_prompt_and_output_lengths_are_independent() -> None:
    trace = freeze(mixture(num_requests=2_000, source=SourceConfig(components={"a": component()})))
    lengths = np.array([(len(r.prompt_token_ids), r.output_tokens) for r in trace.requests])
    assert abs(stats.spearmanr(lengths).statistic) < 5 / 2_000**0.5


def test_kinds_come_in_proportion() -> None:
    workload = mixture(
        num_requests=4_000,
        source=SourceConfig(
            components={"a": component(weight=3), "b": component(weight=1), "c": component(weight=0)}
        ),
    )
    kinds = [r.kind for r in freeze(workload).requests]
    assert abs(kinds.count("a") - 3_000) < 5 * (4_000 * 0.75 * 0.25) ** 0.5
    assert "c" not in kinds


@pytest.mark.parametrize(
    ("settings", "true", "fixed", "room", "declared"),
    [
        ({"kind": "exact"}, 100, 300, 999, 100),
        ({"kind": "fixed", "max_tokens": 512}, 100, None, 999, 512),
        ({"kind": "fixed", "max_tokens": 512}, 100, 300, 999, 300),
        ({"kind": "fixed", "max_tokens": 512}, 600, None, 999, 600),  # never below the true length
        ({"kind": "fixed", "max_tokens": 512}, 100, None, 400, 400),  # never above what is left
        ({"kind": "slack", "slack": 1.5}, 101, 300, 999, 152),
    ],
)
def test_declared_lengths(settings, true, fixed, room, declared) -> None:
    assert declared_tokens(DeclaredConfig(**settings), true, fixed, room) == declared


def test_each_kind_declares_its_own() -> None:
    trace = freeze(mixture())
    assert {r.max_tokens for r in trace.requests if r.kind == "chat"} == {300}
    assert {r.max_tokens for r in trace.requests if r.kind == "qa"} == {512}


def test_length_scale_scales_all_lengths() -> None:
    full, small = freeze(mixture()), freeze(mixture(length_scale=0.1))
    for a, b in zip(full.requests, small.requests, strict=True):
        assert len(b.prompt_token_ids) == max(1, round(len(a.prompt_token_ids) * 0.1))
        assert b.output_tokens == max(1, round(a.output_tokens * 0.1))
        assert b.max_tokens == {"chat": 30, "qa": 51}[b.kind]
        assert a.arrival_s == b.arrival_s
