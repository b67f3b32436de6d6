"""Rounds of SGLang's event loop, for who replays what it decided: many of them launch no step, and change something."""

from __future__ import annotations


class LoopRounds:
    """Counts rounds, and notes in which of them requests came. Belongs to the record of a schedule."""

    def __init__(self) -> None:
        self._number = 0  # of the round that began last
        self._arrivals: list[int] = []  # since the last step

    def begin(self) -> None:
        """SGLang begins to schedule."""
        self._number += 1

    def arrived(self) -> None:
        """A request came. SGLang takes requests in right before it schedules."""
        self._arrivals.append(self._number + 1)

    def launched(self) -> dict[str, object]:
        """For the record of a step: its round, and those of the requests that came since the step before."""
        arrivals, self._arrivals = self._arrivals, []
        return {"round": self._number, "added_rounds": arrivals}

    def forget(self) -> None:
        """What came belongs to another run."""
        self._arrivals = []
