"""What is wrong with a value, in one line. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raises `ValueError` with one line naming the key, the value and what is allowed."""
    if not condition:
        raise ValueError(f"{key}={value!r}: must be {allowed}")


def require_one_of(key: str, value: Any, allowed: Iterable[str]) -> None:
    """The same for a value that must be one of a few names."""
    names = list(allowed)
    require(value in names, key, value, "one of " + ", ".join(names))
