"""Azure's LLM inference traces: TIMESTAMP, ContextTokens, GeneratedTokens; no text, no sharing."""

from __future__ import annotations

import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, bad_record, in_order, source_file
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True
COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every request of the file in order of time."""
    path = config.source.path
    table = pd.read_csv(source_file(path), encoding="utf-8-sig")
    missing = [name for name in COLUMNS if name not in table.columns]
    require(not missing, "workload.source.path", path, "a CSV file with the columns " + ", ".join(COLUMNS))
    times = pd.to_datetime(table["TIMESTAMP"], format="ISO8601", errors="coerce")
    prompts, outputs = (pd.to_numeric(table[name], errors="coerce") for name in COLUMNS[1:])
    wrong = ~(times.notna() & (prompts >= 1) & (outputs >= 1))
    if wrong.any():
        raise bad_record(path, int(wrong.argmax()) + 1, "it needs a time and token counts >= 1")
    seconds = (times - times.min()).dt.total_seconds()
    return in_order(
        Draft(
            config.name, SegmentPrompt((("request", number),), (int(prompt),)), int(output), recorded_s=second
        )
        for number, (second, prompt, output) in enumerate(zip(seconds, prompts, outputs, strict=True))
    )
