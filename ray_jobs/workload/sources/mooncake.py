"""Mooncake's traces, whose hash ids say which 512-token blocks of two prompts are the same."""

from __future__ import annotations

import json
import math

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, bad_record, in_order, source_file

HAS_TIMES = True
OF_THE_FILE = True
BLOCK_TOKENS = 512


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every request of the file in order of time; equal hash ids become equal tokens."""
    path = config.source.path
    found = []
    with open(source_file(path), encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found.append(_draft(json.loads(line), config.name))
            except (KeyError, TypeError, ValueError) as error:
                raise bad_record(path, number, f"{type(error).__name__}: {error}") from error
    return in_order(found)


def _draft(record: dict, kind: str) -> Draft:
    length, output, ids = record["input_length"], record["output_length"], record["hash_ids"]
    if length < 1 or output < 1:
        raise ValueError(f"input_length={length} and output_length={output} must be >= 1")
    if len(ids) != math.ceil(length / BLOCK_TOKENS):
        raise ValueError(f"{len(ids)} hash ids for {length} tokens, expected one for each {BLOCK_TOKENS}")
    lengths = [BLOCK_TOKENS] * len(ids)
    lengths[-1] = length - BLOCK_TOKENS * (len(ids) - 1)
    prompt = SegmentPrompt(tuple(("block", i) for i in ids), tuple(lengths), shared=True)
    return Draft(kind, prompt, output, recorded_s=record["timestamp"] / 1000)
