"""What must hold of every simulated engine: nothing is lost, and nothing counted twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class ConservationError(AssertionError):
    """A block or a token was lost or counted twice."""


def must(condition: bool, what: str, problem: str, value: Any) -> None:
    """Raises ConservationError unless `condition` holds."""
    if not condition:
        raise ConservationError(f"{what}: {problem} {value}")


def check_account(request_id: str, account: Any) -> None:
    """What was executed for a live request is what it has computed, less what it had to compute again."""
    new = account.executed - account.recomputed + account.cached + account.restored
    must(new == account.frontier, request_id, f"frontier {account.frontier}, new tokens", new)


def check_lengths(events: Iterable[Mapping[str, Any]]) -> None:
    """Raises ConservationError if the account of a request that got its whole output does not add up."""
    for event in events:
        if event["type"] == "request" and event["reason"] == "length":
            check_finished(event)


def check_finished(event: Mapping[str, Any]) -> None:
    """executed = prompt + output - 1 + recomputed - cached - restored, for a request that ended by itself."""
    expected = event["prompt"] + event["output"] - 1 + event["recomputed"] - event["cached"]
    expected -= event["restored"]
    must(event["executed"] == expected, event["id"], f"executed {event['executed']}, expected", expected)
