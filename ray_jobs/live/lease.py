"""The control file of a server that is experimented on: the strategy has it on loan, and for seconds only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.control import write_control
from ray_jobs.engines.job import StrategyConfig


class Lease:
    """Turns the strategy on for `lease_s` at a time. Whoever does not renew it, killed or out of disk, leaves a server that
    goes back to the engine's own choices by itself."""

    def __init__(
        self,
        path: str | Path,
        strategy: StrategyConfig,
        lease_s: float,
        clock: Callable[[], float] = time.time,
    ):
        self._path, self._strategy, self._lease_s, self._clock = Path(path), strategy, lease_s, clock
        self._on = False
        self.ends = 0.0  # seconds since the epoch

    def begin(self, seed: int) -> str | None:
        """The strategy is built in the server, and does not decide yet. Returns what the file said before, if it was there."""
        before = self._path.read_text(errors="replace") if self._path.exists() else None
        own = self._strategy
        self._write(
            {
                "strategy": own.name,
                "admission": own.admission,
                "victim": own.victim,
                "retention": own.retention,
                "params": dict(own.params),
                "admission_params": dict(own.admission_params),
                "retention_params": dict(own.retention_params),
                "seed": seed,
                "kill_switch": True,
            }
        )
        return before

    def turn(self, on: bool) -> None:
        """Raises OSError if the file cannot be written; then the loan ends by itself."""
        self._on = on
        self.ends = self._clock() + self._lease_s
        self._write({"kill_switch": False, "until": self.ends} if on else {"kill_switch": True})

    def renew(self) -> bool:
        """At each look. False if it came too late: the strategy had been off for a while."""
        if not self._on:
            return True
        in_time = self._clock() < self.ends
        self.turn(True)
        return in_time

    def _write(self, values: dict[str, Any]) -> None:
        write_control(self._path, values)
