"""Conversations: how long a whole one takes, and what later turns find of the KV that earlier ones left.

Absent from runs without sessions. Turns of sub-agents count from 1 anew.
"""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import CLIENT, EVENTS, RECORDS, metric
from tracking.metrics.samples import average, percentile, share_of
from tracking.metrics.view import RunView


@metric("requests", "none", CLIENT, "sessions")
def sessions(run: RunView) -> float:
    """sessions outside the warm-up"""
    return len(run.sessions) or np.nan


@metric("share", "higher", CLIENT)
def sessions_completed(run: RunView) -> float:
    """sessions whose turns were all answered, of all"""
    return average(np.isfinite(run.session_seconds))


@metric("s", "lower", CLIENT, "session mean")
def session_mean_s(run: RunView) -> float:
    """mean of first scheduled turn to last answer; a session that did not end counts until the run's end"""
    waited = run.end - run.sessions["begin_t"].to_numpy(float)
    return average(np.where(np.isposinf(run.session_seconds), waited, run.session_seconds))


@metric("s", "lower", CLIENT, "session p50")
def session_p50_s(run: RunView) -> float:
    """p50 of first scheduled turn to last answer"""
    return percentile(run.session_seconds, 0.50)


@metric("s", "lower", CLIENT, "session p90")
def session_p90_s(run: RunView) -> float:
    """p90 of first scheduled turn to last answer"""
    return percentile(run.session_seconds, 0.90)


@metric("s", "lower", CLIENT, "TTFT mean, first turn")
def ttft_turn_1_mean_s(run: RunView) -> float:
    """mean TTFT of first turns"""
    return _ttft(run, 0, 0)


@metric("s", "lower", CLIENT, "TTFT mean, turns 2 to 4")
def ttft_turns_2_to_4_mean_s(run: RunView) -> float:
    """mean TTFT of second to fourth turns"""
    return _ttft(run, 1, 3)


@metric("s", "lower", CLIENT, "TTFT mean, turns from 5")
def ttft_turns_from_5_mean_s(run: RunView) -> float:
    """mean TTFT of turns from the fifth on"""
    return _ttft(run, 4, np.inf)


@metric("share", "higher", RECORDS, "cache hits, all turns")
def cached_share(run: RunView) -> float:
    """prompt tokens that the prefix cache supplied, of all that ran"""
    return _cached(run, 0, np.inf)


@metric("share", "higher", RECORDS, "cache hits, first turn")
def cached_turn_1_share(run: RunView) -> float:
    """prompt tokens of first turns that the prefix cache supplied, of all of theirs that ran"""
    return _cached(run, 0, 0)


@metric("share", "higher", RECORDS, "cache hits, turns 2 to 4")
def cached_turns_2_to_4_share(run: RunView) -> float:
    """prompt tokens of second to fourth turns that the prefix cache supplied, of all of theirs that ran"""
    return _cached(run, 1, 3)


@metric("share", "higher", RECORDS, "cache hits, turns from 5")
def cached_turns_from_5_share(run: RunView) -> float:
    """prompt tokens of turns from the fifth on that the prefix cache supplied, of all of theirs that ran"""
    return _cached(run, 4, np.inf)


@metric("share", "lower", RECORDS, "re-prefill tax")
def reprefill_tax_share(run: RunView) -> float:
    """prompt tokens that the turn before had in its prompt, too, and that were computed again (up to a block a turn is
    always), of all prompt tokens that ran"""
    ran = run.column("executed_tokens") > 0
    found = np.nan_to_num(run.column("cached_tokens")) + np.nan_to_num(run.column("restored_tokens"))
    again = np.maximum(0.0, run.column("earlier_tokens") - found)[ran]
    known = ~np.isnan(again)
    return share_of(again[known].sum(), run.column("prompt_tokens")[ran][known].sum())


@metric("preemptions", "lower", EVENTS)
def preemptions_mid_session(run: RunView) -> float:
    """preemptions of turns after the first"""
    later = run.column("turn") > 0
    return float(run.preemption_counts[later].sum()) if len(run.sessions) else np.nan


@metric("share", "lower", EVENTS, "sessions preempted midway")
def sessions_preempted_share(run: RunView) -> float:
    """sessions of which a turn after the first was ever preempted, of all"""
    return average(run.sessions["preempted_later"])


def _ttft(run: RunView, first: float, last: float) -> float:
    turn = run.column("turn")
    return average(run.bounded(run.ttft)[(turn >= first) & (turn <= last)])


def _cached(run: RunView, first: float, last: float) -> float:
    turn, ran = run.column("turn"), run.column("executed_tokens") > 0
    these = (turn >= first) & (turn <= last) & ran
    return share_of(run.column("cached_tokens")[these].sum(), run.column("prompt_tokens")[these].sum())
