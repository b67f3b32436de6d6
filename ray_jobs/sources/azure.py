"""Azure's LLM inference traces: TIMESTAMP, ContextTokens, GeneratedTokens; no text, no sharing."""

from __future__ import annotations

import pandas as pd

from ray_jobs.sources.base import Draft, SegmentPrompt, bad_record, in_order, source_file
from ray_jobs.workload_config import SourceConfig, require

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def azure_drafts(config: SourceConfig, kind: str) -> list[Draft]:
    """Every request of the file in order of time."""
    table = pd.read_csv(source_file(config.path), encoding="utf-8-sig")
    missing = [name for name in COLUMNS if name not in table.columns]
    require(
        not missing, "workload.source.path", config.path, "a CSV file with the columns " + ", ".join(COLUMNS)
    )
    times = pd.to_datetime(table["TIMESTAMP"], format="ISO8601", errors="coerce")
    prompts, outputs = (pd.to_numeric(table[name], errors="coerce") for name in COLUMNS[1:])
    wrong = ~(times.notna() & (prompts >= 1) & (outputs >= 1))
    if wrong.any():
        raise bad_record(config.path, int(wrong.argmax()) + 1, "it needs a time and token counts >= 1")
    seconds = (times - times.min()).dt.total_seconds()
    return in_order(
        Draft(kind, SegmentPrompt((("request", number),), (int(prompt),)), int(output), recorded_s=second)
        for number, (second, prompt, output) in enumerate(zip(seconds, prompts, outputs, strict=True))
    )
