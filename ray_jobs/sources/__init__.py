"""Where the requests of a workload come from."""

from __future__ import annotations

from ray_jobs.sources.azure import azure_drafts
from ray_jobs.sources.base import Draft
from ray_jobs.sources.mixture import mixture_drafts
from ray_jobs.sources.mooncake import mooncake_drafts
from ray_jobs.sources.text import text_drafts
from ray_jobs.workload_config import WorkloadConfig


def make_drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """The requests of a mixture, or all those of a file, before any is picked, scaled or cut."""
    source = config.source
    if source.kind == "mixture":
        return mixture_drafts(source, config.num_requests, seed)
    if source.kind == "azure":
        return azure_drafts(source, config.name)
    if source.kind == "mooncake":
        return mooncake_drafts(source, config.name)
    return text_drafts(source, config.name, vocab_size)
