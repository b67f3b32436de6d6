"""The control file of a server that is experimented on: the strategy has it on loan, and for seconds only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.clock import steady_time
from bidkv.adapters.shared.control import write_control
from ray_jobs.engines.job import StrategyConfig


class Lease:
    """Turns the strategy on for `lease_s` at a time. Whoever does not renew it, killed or out of disk, leaves a server that
    goes back to the engine's own choices by itself."""

    def __init__(
        self,
        path: str | Path,
        strategy: StrategyConfig,
        seed: int,
        lease_s: float,
        clock: Callable[[], float] = steady_time,
    ):
        self._path, self._lease_s, self._clock = Path(path), lease_s, clock
        self._settings = {
            "strategy": strategy.name,
            "admission": strategy.admission,
            "victim": strategy.victim,
            "retention": strategy.retention,
            "params": dict(strategy.params),
            "admission_params": dict(strategy.admission_params),
            "retention_params": dict(strategy.retention_params),
            "seed": seed,
        }
        self._on = False
        self._wrote: str | None = None
        self.turned = self.ends = 0.0  # seconds since the epoch

    def before(self) -> str | None:
        """What the file says before the first turn; None if it is not there."""
        return self._path.read_text(errors="replace") if self._path.exists() else None

    def turn(self, on: bool) -> None:
        """Raises OSError if the file cannot be written; then the loan ends by itself."""
        self._on, self.turned = on, self._clock()
        self._write()

    def taken(self) -> bool:
        """Whether the file does not say any more what this tool wrote last, such as an operator's kill switch. Raises
        OSError if it is gone."""
        return self._wrote is not None and self._path.read_text(errors="replace") != self._wrote

    def renew(self) -> bool:
        """At each look. False if it came too late: the strategy had been off for a while, and is on again from now."""
        if not self._on:
            return True
        in_time = self._clock() < self.ends
        if not in_time:
            self.turned = self._clock()
        self._write()
        return in_time

    def _write(self) -> None:
        """All of the settings each time: a server without work may not have seen the last file."""
        self.ends = self._clock() + self._lease_s
        switch: dict[str, Any] = (
            {"kill_switch": False, "until": self.ends} if self._on else {"kill_switch": True}
        )
        write_control(self._path, self._settings | switch)
        self._wrote = json.dumps(self._settings | switch)
