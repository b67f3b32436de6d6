"""One clock and one control file for the ranks of a tensor-parallel scheduler.

Each rank runs a scheduler of its own, and all must decide alike, or the engine hangs. What decides is the same on all of
them but for two things: what time it is, and when a control file is seen to be new. So the first rank says both, along
with the requests that SGLang broadcasts in every round.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError


@dataclass(frozen=True, slots=True)
class Tick:
    """What the first rank says in a round: its time, settings that are new, or why a file's cannot be used."""

    t: float
    settings: dict[str, Any] | None = None
    first: bool = False  # these are the settings it starts with
    error: str | None = None


class Ranks:
    """Stands in for the clock and the control file of an adapter, which are its own until `hear` was called."""

    def __init__(
        self,
        first: AdapterSettings,
        control: ControlFile | None,
        clock: Callable[[], float] = time.time,
        check: Callable[[AdapterSettings], None] = lambda settings: None,
    ):
        """`first` are the settings to start with. `check` raises on settings that this engine cannot take."""
        self.first, self._check = first, check
        self._control, self._clock = control, clock
        self._t: float | None = None  # None: there is one rank
        self._news: deque[Tick] = deque()
        self._spoke = False

    def now(self) -> float:
        return self._clock() if self._t is None else self._t

    def check_folder(self) -> None:
        """As `ControlFile.check_folder`. Of several ranks the first has looked."""
        if self._t is None and self._control is not None:
            self._control.check_folder()

    def update(self, current: AdapterSettings | None) -> AdapterSettings | None:
        """As `ControlFile.update`; of several ranks all get what the first one found, in the same round."""
        if self._t is None:
            settings = self._control.update(current) if self._control is not None else None
        elif not self._news:
            settings = None
        else:
            tick = self._news.popleft()
            if tick.error is not None:
                raise BidValidationError(tick.error)
            settings = AdapterSettings.from_dict(tick.settings)
        if settings is not None:
            self._check(settings)
        return settings

    def say(self, current: AdapterSettings | None) -> Tick:
        """What the first rank sends to all, itself included. `current` are its settings, None before the first."""
        t = self._clock()
        if not self._spoke:
            self._spoke = True
            return Tick(t, self.first.to_dict(), first=True)
        if self._control is None or current is None:
            return Tick(t)
        try:
            self._control.check_folder()
            settings = self._control.update(current)
        except Exception as error:  # all ranks are told of it, and record it
            return Tick(t, error=str(error))
        return Tick(t, None if settings is None else settings.to_dict())

    def hear(self, tick: Tick) -> None:
        """What the first rank sent."""
        self._t = tick.t
        if tick.first:
            self.first = AdapterSettings.from_dict(tick.settings)
        elif tick.settings is not None or tick.error is not None:
            self._news.append(tick)
