"""Parameters of rules, checked in one line."""

from __future__ import annotations

from bidkv.errors import BidValidationError


def check_number(rule: str, least: float, **values: object) -> None:
    """Raises `BidValidationError` naming the first parameter that is no number of at least `least`."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise BidValidationError(f"{rule}: {key} must be a number of at least {least:g}, got {value!r}")


def check_whole(rule: str, least: int, **values: object) -> None:
    """Raises `BidValidationError` naming the first parameter that is no whole number of at least `least`."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BidValidationError(
                f"{rule}: {key} must be a whole number of at least {least}, got {value!r}"
            )
