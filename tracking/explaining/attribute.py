"""Seconds of each request by cause, up to its first token and to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracking.explaining.causes import BY_NAME
from tracking.recorded.again import computed_again
from tracking.recorded.read import Recorded
from tracking.recorded.steps import slowed

SIZES = ((512, "prompt < 512"), (2048, "prompt < 2k"), (8192, "prompt < 8k"), (32768, "prompt < 32k"))
LONGEST = "prompt >= 32k"


@dataclass
class Attribution:
    """`requests` has a row a request: `e2e_s`, `ttft_s` (NaN without an answer), `size` (its class) and `hour`. `ttft` and
    `e2e` have the same rows, and a column a cause, in seconds."""

    requests: pd.DataFrame
    ttft: pd.DataFrame
    e2e: pd.DataFrame

    @property
    def worst_gap(self) -> float:
        """How far any request's seconds are from adding up, as a share of its E2E."""
        e2e = self.requests["e2e_s"].to_numpy()
        return float(np.max(np.abs(self.e2e.sum(axis=1).to_numpy() - e2e) / np.maximum(e2e, 1e-9)))

    def of(self, rows: np.ndarray) -> Attribution:
        """Those of these requests (a mask)."""
        return Attribution(self.requests[rows], self.ttft[rows], self.e2e[rows])


def attribute(recordings: Sequence[Recorded]) -> Attribution:
    """Of all requests that ended, those of one recording behind those of another."""
    parts = [_one(recorded) for recorded in recordings]
    tables = [
        pd.concat([getattr(p, name) for p in parts], ignore_index=True)
        for name in ("requests", "ttft", "e2e")
    ]
    return Attribution(*tables)


def _one(recorded: Recorded) -> Attribution:
    table = recorded.requests
    e2e = _by_cause(table["seconds"])
    ttft = _by_cause([{} if some is None else some for some in table["to_first"]])
    again = computed_again(table, recorded.head["hash_block_size"])
    computed = (table["prompt"] - table["cached"] - table["restored"]).to_numpy()
    share = np.divide(again, computed, out=np.zeros(len(table)), where=computed > 0)
    for causes in (ttft, e2e):
        causes["again"] = share * causes["prefill"]
        causes["prefill"] -= causes["again"]
    e2e["slowed"] = np.minimum(slowed(list(table["decodes"]), recorded.steps), e2e["decode"])
    e2e["decode"] -= e2e["slowed"]
    arrival = table["arrival_t"].astype(float)
    requests = pd.DataFrame(
        {
            "run": recorded.name,
            "id": table["id"],
            "e2e_s": table["finish_t"].astype(float) - arrival,
            "ttft_s": table["first_token_t"].astype(float) - arrival,
            "prompt": table["prompt"],
            "again_tokens": again,
            "preemptions": table["preemptions"],
            "size": [size_of(prompt) for prompt in table["prompt"]],
            "hour": pd.to_datetime(arrival, unit="s", utc=True).dt.strftime("%m-%d %H:00"),
        }
    )
    return Attribution(requests, ttft, e2e)


def _by_cause(seconds: Sequence[dict[str, float]]) -> pd.DataFrame:
    """A column for every cause there is."""
    table = pd.DataFrame(list(seconds), columns=None).reindex(columns=list(BY_NAME))
    return table.astype(float).fillna(0.0)


def size_of(prompt: int) -> str:
    """The class of a request: a server knows no other."""
    return next((name for limit, name in SIZES if prompt < limit), LONGEST)
