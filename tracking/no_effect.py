"""Keys that change nothing of a comparison or a report, given the rest."""

from __future__ import annotations

from collections.abc import Iterator

from tracking.config import CompareConfig
from tracking.typed import Idle

ONLY_READ = "tracking.uri and tracking.experiment say where the runs are; this is for who writes them"


def idle_store_keys() -> Iterator[Idle]:
    """Of a command that only reads the store."""
    for key in ("artifact_root", "resume", "spool", "patience_s"):
        yield Idle(f"tracking.{key}", ONLY_READ)


def idle_compare_keys(config: CompareConfig) -> Iterator[Idle]:
    """Each with why, and with what has the effect that was probably meant."""
    yield from idle_store_keys()
    if config.format != "text":
        yield Idle("detail", f"format={config.format} has every metric anyway; format=text has two lengths")
    if config.format == "csv":
        yield Idle("classes", "format=csv has no classes; format=json has")
        yield Idle("across", "format=csv has no table of two ways; format=json has")
