"""What a server says of the requests it served, and of itself: the same from its records as from its `/metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Requests:
    """Requests that ended, a value each: seconds since the epoch, tokens, and whether it got its whole output."""

    arrival: np.ndarray
    finish: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    whole: np.ndarray

    @property
    def e2e(self) -> np.ndarray:
        """Seconds; of one that was aborted as long as its client waited."""
        return self.finish - self.arrival

    def arrived(self, begin: float, end: float) -> Requests:
        """Those that arrived from `begin` to before `end`."""
        chosen = (self.arrival >= begin) & (self.arrival < end)
        columns = (self.arrival, self.finish, self.prompt, self.output, self.whole)
        return Requests(*(column[chosen] for column in columns))

    def tokens_per_s(self, begin: float, end: float) -> float:
        """Output tokens of those that ended in that time."""
        ended = (self.finish >= begin) & (self.finish < end)
        return float(self.output[ended].sum()) / (end - begin)


class Served(ABC):
    """Read again at each look."""

    killed: bool | None = None  # its kill switch; None = it has not said

    @abstractmethod
    def poll(self) -> None:
        """Takes in what is new."""

    @abstractmethod
    def trouble(self) -> str | None:
        """Why the experiment must end at once; None if nothing is wrong."""

    @abstractmethod
    def values(self, begin: float, end: float) -> dict[str, float]:
        """`requests`, `e2e_mean_s` and what else is known, of what was served from `begin` to `end`; empty if nothing was."""

    def requests(self) -> Requests | None:
        """All requests one by one; None where only sums are known."""
        return None
