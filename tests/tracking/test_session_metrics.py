"""Metrics of conversations, checked against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tracking.metrics.catalogue import METRICS, compute_metrics
from tracking.metrics.config import SloConfig
from tracking.metrics.turns import turn_metrics
from tracking.result import REQUEST_COLUMNS, RunResult

SLO = SloConfig(ttft_s=2.0, tpot_s=0.1)
OF_SESSIONS = {name for name, metric in METRICS.items() if "turn" in name or "session" in name}


def turn(session: str, number: int, at: float, ttft: float, takes: float, cached: int = 0, **more) -> dict:
    return dict.fromkeys(REQUEST_COLUMNS, np.nan) | {
        "request_id": f"{session}-{number}", "kind": "talk", "status": "ok", "error": None, "warmup": False,
        "scheduled_t": at, "sent_t": at, "first_token_t": at + ttft, "finish_t": at + takes,
        "prompt_tokens": 100 * (number + 1), "output_tokens": 21, "true_output_tokens": 21, "max_tokens": 30,
        "itl_s": [0.05] * 20, "cached_tokens": cached, "executed_tokens": 100, "recomputed_tokens": 0,
        "preemptions": 0, "preempted_s": 0.0, "session": session, "turn": number,
    } | more  # fmt: skip


def test_the_re_prefill_tax_is_what_the_turn_before_had_and_is_not_found():
    rows = [
        turn("a", 0, 0.0, 1.0, 3.0, earlier_tokens=0),
        turn("a", 1, 5.0, 0.5, 3.0, cached=48, earlier_tokens=100),  # 52 again
        turn("a", 2, 9.0, 0.5, 3.0, cached=96, restored_tokens=96, earlier_tokens=200),  # 8 again
        turn("b", 0, 0.0, 1.0, 3.0, cached=16, earlier_tokens=0),
    ]
    assert compute_metrics(run_of(rows), SLO)["reprefill_tax_share"] == pytest.approx(60 / 700)
    stored_before_the_column = compute_metrics(run_of(two_sessions()), SLO)
    assert "reprefill_tax_share" not in stored_before_the_column


def run_of(rows: list[dict], victims: tuple[str, ...] = ()) -> RunResult:
    events = [{"type": "preempt", "source": "strategy", "victim": v, "tokens_freed": 5} for v in victims]
    table = pd.DataFrame(rows, columns=list(REQUEST_COLUMNS))
    return RunResult("finished", table, events, finished_t=50.0)


def two_sessions() -> list[dict]:
    return [
        turn("a", 0, 0.0, 1.0, 3.0),
        turn("a", 1, 5.0, 0.5, 3.0, cached=90),
        turn("b", 0, 2.0, 2.0, 4.0),
        turn("b", 1, 7.0, 0.25, 2.0, cached=96),
        turn("b", 2, 10.0, 0.75, 4.0, cached=180),
    ]


def test_a_session_runs_from_its_first_turn_to_its_last_answer():
    values = compute_metrics(run_of(two_sessions()), SLO)
    assert values["sessions"] == 2 and values["sessions_completed"] == 1.0
    assert values["session_mean_s"] == pytest.approx((8 + 12) / 2)
    assert values["session_p50_s"] == pytest.approx(10.0)


def test_first_token_and_cache_hits_by_turn():
    values = compute_metrics(run_of(two_sessions()), SLO)
    assert values["ttft_turn_1_mean_s"] == pytest.approx(1.5)
    assert values["ttft_turns_2_to_4_mean_s"] == pytest.approx(0.5)
    assert values["cached_turn_1_share"] == 0.0
    assert values["cached_share"] == pytest.approx((90 + 96 + 180) / (100 + 100 + 200 + 200 + 300))
    assert values["cached_turns_2_to_4_share"] == pytest.approx((90 + 96 + 180) / (200 + 200 + 300))
    assert "ttft_turns_from_5_mean_s" not in values
    table = turn_metrics(run_of(two_sessions(), victims=("b-1",)))
    assert list(table.index) == [1, 2, 3] and list(table["requests"]) == [2, 2, 1]
    assert list(table["ttft_mean_s"]) == pytest.approx([1.5, 0.375, 0.75])
    assert list(table["cached_share"]) == pytest.approx([0, 186 / 400, 0.6])
    assert list(table["preempted_share"]) == [0, 0.5, 0]


def test_preemptions_count_in_mid_session_after_the_first_turn():
    values = compute_metrics(run_of(two_sessions(), victims=("a-0", "b-1", "b-1")), SLO)
    assert values["preemptions"] == 3 and values["preemptions_mid_session"] == 2
    assert values["sessions_preempted_share"] == 0.5


def test_a_session_that_was_cut_off_did_not_end():
    rows = two_sessions()
    rows[1] |= {"status": "timeout", "first_token_t": np.nan, "finish_t": np.nan}
    values = compute_metrics(run_of(rows), SLO)
    assert values["sessions_completed"] == 0.5 and values["session_p90_s"] == np.inf
    assert values["session_mean_s"] == pytest.approx((50 + 12) / 2)


@pytest.mark.parametrize("old", [True, False], ids=["stored before", "without sessions"])
def test_runs_without_sessions_have_none_of_it(old: bool):
    result = run_of([turn("", i, float(i), 1.0, 2.0) | {"turn": np.nan} for i in range(3)])
    if old:
        result.requests = result.requests.drop(columns=["session", "turn"])
    assert not set(compute_metrics(result, SLO)) & OF_SESSIONS and len(OF_SESSIONS) == 14
    assert turn_metrics(result).empty


def test_how_many_live_sessions_the_pool_fits_is_by_their_largest_turn():
    result = run_of([*two_sessions(), turn("", 0, 0.0, 1.0, 2.0, turn=np.nan, prompt_tokens=10_000)])
    result.events = [{"type": "run_start", "num_blocks": 100, "block_size": 16}]
    values = compute_metrics(result, SLO)
    assert values["pool_fits_sessions"] == pytest.approx(1600 / np.mean([200 + 21, 300 + 21]))
    assert values["pool_fits"] == pytest.approx(1600 / np.mean([121, 221, 121, 221, 321, 10_021]))
