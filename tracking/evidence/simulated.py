"""What a simulation's times rest on."""

from __future__ import annotations

from collections.abc import Mapping


def guessed(tags: Mapping[str, str]) -> str | None:
    """A note if a run's step times were never measured with its model on its device: its `calibration` then says why."""
    calibration = tags.get("calibration", "")
    return f"simulated times are a guess: {calibration}" if calibration.endswith(")") else None
