"""Conversations in ShareGPT's form: `conversations`, a list of turns with `from` and `value`."""

from __future__ import annotations

from typing import Any

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft
from ray_jobs.workload.sources.shared.text import text_drafts

OF_THE_FILE = True
HAS_TEXT = True


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """The usable records of the file, as texts."""
    return text_drafts(config, vocab_size, _pair)


def _pair(record: dict[str, Any]) -> tuple[str, str]:
    """The first human turn and the answer to it; empty if the conversation begins otherwise."""
    turns = record["conversations"]
    if len(turns) < 2 or (turns[0]["from"], turns[1]["from"]) != ("human", "gpt"):
        return "", ""
    return turns[0]["value"], turns[1]["value"]
