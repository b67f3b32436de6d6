"""What a request would take alone: the denominator of slowdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracking.result import RunResult

ALONE = 0.05  # quantile of step times that stands for an engine with nothing else to do


@dataclass(frozen=True)
class IdealTimes:
    """Seconds of a decode step and of a prefilled token on an engine that is otherwise idle.

    They must not come from the run whose slowdown they measure: a strategy that slows every step would
    then look as good as before. All runs of a block are given the same ones, those of the block's first
    run, so that they cancel between two strategies; each run keeps what it was given as metrics.
    """

    decode_s: float
    prefill_s: float  # per token

    @classmethod
    def of(cls, result: RunResult) -> IdealTimes | None:
        """Measured in a run: the 5th percentiles of its pure decode steps and of its steps' time per
        prefilled token. None if it has no step of one kind."""
        steps = result.steps
        if not len(steps):
            return None
        decode = steps.loc[(steps["prefill_tokens"] == 0) & (steps["decode_tokens"] > 0), "dur"]
        prefill = steps.loc[steps["prefill_tokens"] > 0]
        if not len(decode) or not len(prefill):
            return None
        per_token = prefill["dur"] / prefill["prefill_tokens"]
        return cls(float(decode.quantile(ALONE)), float(per_token.quantile(ALONE)))

    @classmethod
    def stored(cls, metrics: Mapping[str, Any]) -> IdealTimes | None:
        """Those that a stored run was given."""
        if "ideal_decode_s" not in metrics or "ideal_prefill_s" not in metrics:
            return None
        return cls(metrics["ideal_decode_s"], metrics["ideal_prefill_s"])

    def seconds(self, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
        """E2E of requests of these sizes, alone."""
        return prompt_tokens * self.prefill_s + output_tokens * self.decode_s
