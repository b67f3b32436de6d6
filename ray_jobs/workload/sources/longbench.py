"""LongBench: `context`, `input` and `answers`; questions about long texts."""

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
    answers = record["answers"]
    return f"{record['context']}\n\n{record['input']}\n\nAnswer:", answers[0] if answers else ""
