"""What is wrong with a value, in one line. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raises `ValueError` with one line naming the key, the value and what is allowed."""
    if not condition:
        raise ValueError(f"{key}={value!r}: must be {allowed}")


def require_one_of(key: str, value: Any, allowed: Iterable[str]) -> None:
    """The same for a value that must be one of a few names."""
    names = list(allowed)
    near = f" (did you mean {nearest(value, names)}?)" if nearest(value, names) else ""
    require(value in names, key, value, "one of " + ", ".join(names) + near)


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """The name that is most like the given one; None if none is."""
    return next(iter(get_close_matches(str(name), list(known), n=1)), None)
