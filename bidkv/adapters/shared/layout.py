"""Whether an engine still has the names an adapter stands on: nothing runs with half of its hooks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import Any

from bidkv.errors import BidKVError

logger = logging.getLogger(__name__)


class UnknownLayoutError(BidKVError):
    """This engine, or the way it is configured, is not one the adapter understands."""


def missing_names(owner: Any, label: str, names: Iterable[str]) -> list[str]:
    """One line for each of `names` that `owner` does not have."""
    return [f"{label}.{name} is missing" for name in names if not hasattr(owner, name)]


def wrong_parameters(owner: Any, label: str, name: str, first: tuple[str, ...]) -> list[str]:
    """A line if `owner.name` is missing or does not take the parameters `first` in front."""
    function = getattr(owner, name, None)
    if function is None:
        return [f"{label}.{name} is missing"]
    if tuple(inspect.signature(function).parameters)[: len(first)] != first:
        return [f"{label}.{name} does not take {', '.join(first)} first"]
    return []


def is_tested(version: str, tested: tuple[str, ...]) -> bool:
    """Whether the adapter's tests were run with this version (a local part such as `+cpu` aside)."""
    return version.partition("+")[0] in tested


def warn_untested(engine: str, version: str, tested: tuple[str, ...]) -> None:
    if not is_tested(version, tested):
        logger.warning(
            "bidkv: %s %s is untested (tested: %s); its layout is one that bidkv knows",
            engine,
            version,
            ", ".join(tested),
        )
