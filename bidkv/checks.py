"""Parameters of policies, checked in one line."""

from __future__ import annotations

from bidkv.errors import BidValidationError


def check_at_least(policy: str, minimum: float, **values: float) -> None:
    """Raises `BidValidationError` naming the first parameter below `minimum`, or that is no number."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= minimum:
            raise BidValidationError(f"{policy}: {key} must be >= {minimum}, got {value!r}")


def check_whole(policy: str, minimum: int, **values: int) -> None:
    """Raises `BidValidationError` naming the first parameter that is no whole number of at least `minimum`."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise BidValidationError(
                f"{policy}: {key} must be a whole number of at least {minimum}, got {value!r}"
            )
