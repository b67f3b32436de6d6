"""BurstGPT: four months of ChatGPT and GPT-4 at a university, through Azure; no text, no sharing.

github.com/HPMLL/BurstGPT, `data/BurstGPT_*.csv`, CC-BY-4.0. Timestamps are whole seconds. A request
with no response tokens failed then and is left out.
"""

from __future__ import annotations

import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, bad_record, in_order, source_file
from tracking.errors import require

HAS_TIMES = True
OF_THE_FILE = True
COLUMNS = ("Timestamp", "Request tokens", "Response tokens")


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """Every answered request of the file in order of time."""
    path = config.source.path
    table = pd.read_csv(source_file(path), encoding="utf-8-sig")
    missing = [name for name in COLUMNS if name not in table.columns]
    require(not missing, "workload.source.path", path, "a CSV file with the columns " + ", ".join(COLUMNS))
    times, prompts, outputs = (pd.to_numeric(table[name], errors="coerce") for name in COLUMNS)
    wrong = ~(times.notna() & (prompts >= 0) & (outputs >= 0))
    if wrong.any():
        raise bad_record(path, int(wrong.argmax()) + 1, "it needs a time and token counts >= 0")
    answered = (outputs > 0) & (prompts > 0)
    require(bool(answered.any()), "workload.source.path", path, "a file with at least one answered request")
    seconds = times - times[answered].min()
    return in_order(
        Draft(
            config.name, SegmentPrompt((("request", number),), (int(prompt),)), int(output), recorded_s=second
        )
        for number, second, prompt, output in zip(
            table.index[answered], seconds[answered], prompts[answered], outputs[answered], strict=True
        )
    )
