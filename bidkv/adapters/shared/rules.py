"""What engines read off an admission policy in every step, checked before it decides anything."""

from __future__ import annotations

import math
from numbers import Integral, Real

from bidkv.admission.base import AdmissionPolicy
from bidkv.errors import BidValidationError

FLAGS = ("preempted_first", "resorts", "reclaims", "asks", "only_reserves", "sees_cache")
COUNTS = {"backfill": 0, "max_overtaken": 1}
NUMBERS = (
    "alone_after", "alone_after_s", "alone_each", "headroom", "grace", "grace_s", "large", "passing", "passing_s", "patience",
)  # fmt: skip
PARAMETERS = {"backfill": "depth"}
"""What the constructors of this project call it, where that is another name."""


def check_rules(admission: AdmissionPolicy) -> None:
    """Raises `BidValidationError`, in one line, on a rule that is of no use: half a request can not be looked at.

    Engines read rules where nothing catches an exception, and a bound that no count ever equals would be none.
    """
    for key in FLAGS:
        value = getattr(admission, key)
        if not isinstance(value, bool):
            raise _wrong(admission, key, "true or false", value)
    for key, least in COUNTS.items():
        value = getattr(admission, key)
        if value is None and key == "max_overtaken":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise _wrong(admission, key, f"a whole number of at least {least}", value)
    for key in NUMBERS:
        value = getattr(admission, key)
        if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value) or value < 0:
            raise _wrong(admission, key, "a number of at least 0", value)


def check_no_cache_seen(admission: AdmissionPolicy) -> None:
    """For engines whose cache no policy looks into: raises `BidValidationError` on one that would."""
    if admission.sees_cache:
        raise BidValidationError(
            f"admission {admission.name!r} goes by what is cached, which this engine does not tell; choose "
            "another, such as 'backfill'"
        )


def _wrong(admission: AdmissionPolicy, key: str, what: str, value: object) -> BidValidationError:
    name = PARAMETERS.get(key, key)
    called = key if name == key else f"{name} ({key})"
    return BidValidationError(f"{admission.name}: {called} must be {what}, got {value!r}")
