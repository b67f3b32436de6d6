"""Which lines of a segment are whole records: a folder may hold half a line, or what is somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.recording.engine import FORMAT, STEP
from bidkv.adapters.shared.recording.lives import QUEUE
from tracking.recorded.strategies import PARAMETERS

COUNTS = ("prompt", "output", "max_tokens", "executed", "cached", "restored", "preemptions")
TIMES = {
    "request": ("arrival_t", "finish_t"),
    "arrival": ("arrival_t", "t"),
    "preempt": ("t",),
    "strategy": ("t",),
}
"""What is always there, in seconds since the epoch, by kind of record."""
NAMES = {"request": "id", "arrival": "id", "preempt": "id", "strategy": "strategy"}
"""What is always a name."""
HEAD_NAMES, HEAD_COUNTS = (
    ("engine", "engine_version", "model"),
    ("hash_block_size", "num_blocks", "max_num_seqs"),
)
LARGEST = 2**63
LATEST = 1e11  # the year 5138
TIMES_OR_NONE = ("first_token_t", "first_scheduled_t")


def whole_record(line: bytes) -> dict[str, Any] | list[Any] | None:
    """The record in a line; None if there is none, or not all of it."""
    try:
        record = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, list):
        return record if _is_step(record) else None
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        return None
    kind = record["type"]
    if not all(_is_time(record.get(key)) for key in TIMES.get(kind, ())):
        return None
    if kind in NAMES and not isinstance(record.get(NAMES[kind]), str):
        return None
    return record if OTHERS.get(kind, bool)(record) else None


def _is_head(record: dict[str, Any]) -> bool:
    """Of another format nothing is known; whoever reads it says so."""
    if record.get("format") != FORMAT:
        return True
    return (
        all(isinstance(record.get(key), str) for key in HEAD_NAMES)
        and all(_is_count(record.get(key)) and record[key] > 0 for key in HEAD_COUNTS)
        and isinstance(record.get("prefix_caching"), bool)
    )


def _is_step(record: list[Any]) -> bool:
    return len(record) == len(STEP) and all(map(_is_number, record[:-1])) and record[-1] in QUEUE


def _is_request(record: dict[str, Any]) -> bool:
    times = [record.get(key, "") for key in TIMES_OR_NONE]
    first, decodes, blocks = record.get("to_first", ""), record.get("decodes"), record.get("blocks")
    return (
        all(_is_count(record.get(key)) for key in COUNTS)
        and all(t is None or _is_time(t) for t in times)
        and _are_seconds(record.get("seconds"))
        and (first is None or _are_seconds(first))
        and isinstance(decodes, list)
        and all(isinstance(span, list) and len(span) == 2 and all(map(_is_number, span)) for span in decodes)
        and isinstance(blocks, list)
        and _are_runs(blocks, record["prompt"] + record["output"])
    )


def _is_strategy(record: dict[str, Any]) -> bool:
    return isinstance(record.get("kill_switch"), bool) and all(
        isinstance(record.get(key, {}), dict) for key in PARAMETERS
    )


def _are_runs(blocks: list[Any], tokens: float) -> bool:
    """First number and length of each run, of no more blocks than there are tokens."""
    return all(map(_is_count, blocks)) and len(blocks) % 2 == 0 and sum(blocks[1::2]) <= tokens


def _are_seconds(found: Any) -> bool:
    return isinstance(found, dict) and all(map(_is_number, found.values()))


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < LATEST


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _is_number(value: Any) -> bool:
    """One that a table can hold: 1e999 is infinite to a parser."""
    return type(value) in (int, float) and -LARGEST < value < LARGEST


OTHERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "recording": _is_head,
    "request": _is_request,
    "strategy": _is_strategy,
}
"""What else holds, by kind of record."""


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
