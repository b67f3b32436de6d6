"""Azure's multimodal inference trace: TIMESTAMP, NumImages, ContextTokens, GeneratedTokens; no content, no sharing.

github.com/Azure/AzurePublicDataset, AzureLMMInferenceDataset2025.md, CC-BY 4.0; the file may stay packed (.csv.gz). Context
tokens are those of the text and of the images, which the KV cache holds alike. A request's class is image or text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.source_config import ColumnsConfig, SourceConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, in_order
from ray_jobs.workload.sources.shared.log import Log, log_facts, read_log
from ray_jobs.workload.sources.shared.log_cells import counts
from ray_jobs.workload.sources.shared.log_columns import header_of
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True
COLUMNS = ColumnsConfig("TIMESTAMP", "ContextTokens", "GeneratedTokens", kind="NumImages")
NAMES = (COLUMNS.arrival, COLUMNS.kind, COLUMNS.prompt, COLUMNS.output)


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every answered request of the file in order of time."""
    log = _read(config.source)
    images = counts(log.table["kind"].rename(COLUMNS.kind), config.source.path) > 0
    kinds = np.where(images, "image", "text")
    rows = zip(kinds, *(log.table[key] for key in ("prompt", "output", "seconds")), strict=True)
    return in_order(
        Draft(
            str(kind), SegmentPrompt((("request", number),), (int(prompt),)), int(output), recorded_s=second
        )
        for number, (kind, prompt, output, second) in enumerate(rows)
    )


def facts(config: WorkloadConfig) -> dict[str, Any]:
    """What a trace of this file is told of it."""
    return log_facts(_read(config.source))


def _read(source: SourceConfig) -> Log:
    there = header_of(source.path)[1]
    require(
        set(NAMES) <= set(there), "workload.source.path", source.path,
        "a CSV file with the columns " + ", ".join(NAMES),
    )  # fmt: skip
    return read_log(replace(source, columns=COLUMNS))
