"""Which lines of a segment are whole records: a folder may hold half a line, or what is somebody else's."""

from __future__ import annotations

import json
from typing import Any

from bidkv.adapters.shared.recording.engine import STEP

COUNTS = ("prompt", "output", "max_tokens", "executed", "cached", "restored", "preemptions")
NUMBERS = {
    "request": ("arrival_t", "finish_t", *COUNTS),
    "arrival": ("arrival_t", "t"),
    "preempt": ("t",),
    "strategy": ("t", "kill_switch"),
}
"""What is always a number, by kind of record."""
NUMBERS_OR_NONE = ("first_token_t", "first_scheduled_t")


def whole_record(line: bytes) -> dict[str, Any] | list[Any] | None:
    """The record in a line; None if there is none, or not all of it."""
    try:
        record = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, list):
        return record if len(record) == len(STEP) and all(map(_is_number, record[:-1])) else None
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        return None
    numbers = NUMBERS.get(record["type"], ())
    if not all(_is_number(record.get(key)) for key in numbers):
        return None
    return None if record["type"] == "request" and not _is_request(record) else record


def _is_request(record: dict[str, Any]) -> bool:
    times = [record.get(key, "") for key in NUMBERS_OR_NONE]
    first, decodes, blocks = record.get("to_first", ""), record.get("decodes"), record.get("blocks")
    return (
        isinstance(record.get("id"), str)
        and all(t is None or _is_number(t) for t in times)
        and _are_seconds(record.get("seconds"))
        and (first is None or _are_seconds(first))
        and isinstance(decodes, list)
        and all(isinstance(span, list) and len(span) == 2 and all(map(_is_number, span)) for span in decodes)
        and isinstance(blocks, list)
        and len(blocks) % 2 == 0
        and all(isinstance(number, int) for number in blocks)
    )


def _are_seconds(found: Any) -> bool:
    return isinstance(found, dict) and all(map(_is_number, found.values()))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
