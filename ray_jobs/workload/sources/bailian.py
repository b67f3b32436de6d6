"""Alibaba's Bailian traces: Qwen in production, with hash ids of 16-token blocks, chats and types of request.

github.com/alibaba-edu/qwen-bailian-usagetraces-anon, `qwen_*_blksz_16.jsonl` (Git LFS), Apache-2.0. Equal hash ids are
equal blocks. A request's class is its type (text, search, image, file). Replayed, a turn comes when it came, but not
before the answer that it goes on from.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import ChatTurn, Draft, bad_record, in_order, source_file
from ray_jobs.workload.sources.shared.blocks import BlockPrompt
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True
BLOCK_TOKENS = 16
NO_PARENT = -1
LFS = "version https://git-lfs"


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every request of the file in order of time; equal hash ids become equal tokens."""
    path = config.source.path
    found: list[Draft] = []
    begun: dict[int, int] = {}  # the session of each chat id
    with open(source_file(path), encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            require(
                number > 1 or not line.startswith(LFS), "workload.source.path", path,
                "the trace itself, not its place in Git LFS; `git lfs pull` gets it",
            )  # fmt: skip
            if not line.strip():
                continue
            try:
                found.append(_draft(json.loads(line), begun))
            except (KeyError, TypeError, ValueError) as error:
                raise bad_record(path, number, f"{type(error).__name__}: {error}") from error
    return in_order(found)


def _draft(record: dict[str, Any], begun: dict[int, int]) -> Draft:
    length, output, ids = record["input_length"], record["output_length"], record["hash_ids"]
    if length < 1 or output < 1:
        raise ValueError(f"input_length={length} and output_length={output} must be >= 1")
    if len(ids) != math.ceil(length / BLOCK_TOKENS):
        raise ValueError(f"{len(ids)} hash ids for {length} tokens, expected one for each {BLOCK_TOKENS}")
    blocks = np.array(ids, dtype=np.int64)
    prompt = BlockPrompt(("blocks",), None, BLOCK_TOKENS, blocks, length, BLOCK_TOKENS)
    return Draft(
        record["type"], prompt, output, recorded_s=float(record["timestamp"]), chat=_turn(record, begun)
    )


def _turn(record: dict[str, Any], begun: dict[int, int]) -> ChatTurn:
    """A chat is named by its first request. One that began before the file is named by the first that is in it."""
    own, after, turn = record["chat_id"], record["parent_chat_id"], record["turn"]
    if turn < 1:
        raise ValueError(f"turn={turn} must be >= 1")
    if own in begun:
        raise ValueError(f"chat_id={own} occurs twice")
    begun[own] = begun.get(after, own)
    return ChatTurn(begun[own], turn - 1, own, None if after == NO_PARENT else after)
