"""The gate and the kill switch of the bid library, shared live by everything that acts on bids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bidkv.errors import BidValidationError


@dataclass
class BidGate:
    """Whether bids are collected, shown and accepted; every change takes effect at the next read.

    It gates the bid library alone. No engine's adapter reads it: a strategy on a server is bypassed by the
    kill switch of its `AdapterSettings`. `delta_budget` bounds the summed quality delta of one solve; `max_bids_per_solve` its number of
    bids (0 = no bound). Share one object: the pool, the detector and the solver read it each time.
    Raises `BidValidationError` on a value outside its range, also when it is assigned later.
    """

    enabled: bool = False
    kill_switch: bool = False
    delta_budget: float = 1.0
    max_bids_per_solve: int = 0

    @property
    def is_active(self) -> bool:
        """Enabled and not killed. The kill switch wins over `enabled`."""
        return self.enabled and not self.kill_switch

    @property
    def switched_off(self) -> int:
        """How often the gate went from active to inactive: bids from before the last time are void."""
        return self.__dict__.get("_switched_off", 0)

    def __setattr__(self, key: str, value: Any) -> None:
        _CHECKS.get(key, _unknown)(key, value)
        before = self.__dict__.get("enabled", False) and not self.__dict__.get("kill_switch", False)
        object.__setattr__(self, key, value)
        if before and not self.is_active:
            self.__dict__["_switched_off"] = self.switched_off + 1


def _flag(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise BidValidationError(f"{key} must be true or false, got {value!r}")


def _budget(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise BidValidationError(f"{key} must be a number >= 0, got {value!r}")


def _count(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BidValidationError(f"{key} must be an integer >= 0 (0 = no bound), got {value!r}")


def _unknown(key: str, value: Any) -> None:
    raise BidValidationError(f"BidGate has no {key!r}; allowed: {', '.join(_CHECKS)}")


_CHECKS = {"enabled": _flag, "kill_switch": _flag, "delta_budget": _budget, "max_bids_per_solve": _count}
