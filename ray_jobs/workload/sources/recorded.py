"""What a server recorded of itself: arrivals, lengths, and which blocks of prompts are the same.

The recording has a number for each content of a block, so equal numbers become equal tokens; the rest of a prompt behind its
last full block is its own. Requests that got no output are left out, and those whose end is not there, whose length nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, in_order
from ray_jobs.workload.sources.shared.blocks import BlockPrompt
from tracking.errors import require
from tracking.recorded.again import block_numbers
from tracking.recorded.read import Recorded, largest, read_recordings

HAS_TIMES = True
OF_THE_FILE = True
KEY = "workload.source.path"


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every answered request of the start with the most, in order of arrival."""
    recorded = largest(read_recordings(config.source.path, KEY, with_steps=False))
    found = in_order(_drafts(recorded))
    require(len(found) > 1, KEY, config.source.path, "a recording with two answered requests at least")
    return found


def _drafts(recorded: Recorded) -> Iterator[Draft]:
    table, size = recorded.requests, int(recorded.head["hash_block_size"])
    table = table[(table["output"] >= 1) & (table["prompt"] >= 1)].reset_index(drop=True)
    begun = float(table["arrival_t"].min())
    numbers = [block_numbers(runs) for runs in table["blocks"]]
    priorities = dict(
        zip(recorded.arrivals.get("id", ()), recorded.arrivals.get("priority", ()), strict=True)
    )
    own = 1 + max(
        (int(some.max()) for some in numbers if len(some)), default=0
    )  # numbers that nobody else has
    for place, row in enumerate(table.to_dict("records")):
        length = int(row["prompt"])
        known = numbers[place][: length // size]
        if recorded.head["prefix_caching"] and len(known) == length // size:
            blocks = known if length % size == 0 else np.append(known, own + place)
            prompt = BlockPrompt(("recorded",), None, size, blocks, length, size)
        else:
            prompt = SegmentPrompt((("request", place),), (length,))
        yield Draft(
            "request", prompt, int(row["output"]), max_tokens=max(1, int(row["max_tokens"])),
            priority=int(priorities.get(row["id"], 0)), recorded_s=float(row["arrival_t"]) - begun,
        )  # fmt: skip
