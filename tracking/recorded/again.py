"""Which beginnings of prompts were computed again though an earlier request had computed them."""

from __future__ import annotations

import numpy as np
import pandas as pd


def block_numbers(runs: list[int]) -> np.ndarray:
    """The numbers of a request's full blocks, out of its runs (first number and length of each)."""
    pairs = np.asarray(runs, dtype=np.int64).reshape(-1, 2)
    if not len(pairs):
        return np.empty(0, dtype=np.int64)
    return np.concatenate([np.arange(first, first + count) for first, count in pairs])


def computed_again(requests: pd.DataFrame, block_size: int) -> np.ndarray:
    """Prompt tokens of each request that were neither in a cache when it first started nor new: requests that had ended by
    then had computed them. Their KV was given up in between."""
    again = np.zeros(len(requests), dtype=np.int64)
    if requests.empty:
        return again
    numbers = [block_numbers(runs) for runs in requests["blocks"]]
    seen = np.zeros(max((int(some.max()) for some in numbers if len(some)), default=0) + 1, dtype=bool)
    starts, ends = requests["first_scheduled_t"].to_numpy(float), requests["finish_t"].to_numpy(float)
    moments = [(t, 1, place) for place, t in enumerate(starts) if not np.isnan(t)]
    moments += [(t, 0, place) for place, t in enumerate(ends)]
    prompts = requests["prompt"].to_numpy()
    hits = (requests["cached"] + requests["restored"]).to_numpy()
    for _, begins, place in sorted(moments):
        own = numbers[place]
        if not begins:
            seen[own] = True
            continue
        known = seen[own[: prompts[place] // block_size]]
        length = len(known) if known.all() else int(known.argmin())
        again[place] = max(0, min(length * block_size, prompts[place] - 1) - hits[place])
    return again
