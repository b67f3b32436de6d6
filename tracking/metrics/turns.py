"""What each turn of the conversations of a run met: latency, cache, preemption."""

from __future__ import annotations

import pandas as pd

from tracking.metrics.samples import percentile
from tracking.metrics.view import RunView
from tracking.result import RunResult


def turn_metrics(result: RunResult) -> pd.DataFrame:
    """One row a turn, counted from 1 (sub-agents count their own); empty without sessions.

    `requests`, `ttft_mean_s` (a lower bound where one failed), `ttft_p50_s`, `ttft_p90_s`, `cached_share`
    of the prompt tokens that ran, and `preempted_share` of the requests.
    """
    run = RunView(result)
    if not len(run.sessions):
        return pd.DataFrame()
    prompts = run.requests["prompt_tokens"].where(run.requests["executed_tokens"] > 0)
    table = pd.DataFrame(
        {
            "turn": run.column("turn") + 1,
            "ttft": run.ttft,
            "bounded": run.bounded(run.ttft),
            "prompt": prompts.to_numpy(float),
            "cached": run.requests["cached_tokens"].where(prompts.notna()).to_numpy(float),
            "preempted": run.preemption_counts > 0,
        }
    ).dropna(subset="turn")
    turns = table.groupby(table["turn"].astype(int))
    return pd.DataFrame(
        {
            "requests": turns.size(),
            "ttft_mean_s": turns["bounded"].mean(),
            "ttft_p50_s": turns["ttft"].agg(lambda values: percentile(values.to_numpy(), 0.50)),
            "ttft_p90_s": turns["ttft"].agg(lambda values: percentile(values.to_numpy(), 0.90)),
            "cached_share": turns["cached"].sum() / turns["prompt"].sum(),
            "preempted_share": turns["preempted"].mean(),
        }
    )
