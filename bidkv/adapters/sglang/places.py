"""Who joined SGLang's queue when, and how many that joined later have started since."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from typing import Any


@dataclass(slots=True, eq=False)
class Place:
    """A request's own from its arrival to its end: nothing that happens to the queue changes `joined`.

    `queued` says when it last entered SGLang's list, which is the order SGLang itself goes by. `key` is the
    admission policy's, kept while it holds.
    """

    name: str
    joined: int
    queued: int
    since: int = 0  # how many starts there had been when it began to wait
    waits: bool = True
    started: int = -1  # the number of its latest start; -1 before the first
    behind: int = 0  # later ones that had started before it began to wait
    passed: bool = False  # it has overtaken somebody who waits, so that it goes back to its place
    key: tuple[Any, ...] | None = None
    wants: float = (
        0.0  # tokens that SGLang must have left for it, as found when it was looked at behind another
    )
    until: int = 0  # the number of the round to which that is believed


class Places:
    """The places of all requests that have not ended.

    Joining, starting and leaving cost O(log n) and a shift of a list of integers. `starts` holds the numbers of those that
    started, as far as somebody is left who joined before them.
    """

    KEEP = 1024  # starts after which those are forgotten that nobody was overtaken by

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._numbers, self._entries = count(), count()
        self._starts: list[int] = []
        self._started = 0
        self._keep = self.KEEP
        self._first_time: deque[Place] = deque()  # wait and never started, in the order they joined
        self._again: dict[str, Place] = {}  # wait after they had started

    def __getitem__(self, name: str) -> Place:
        return self._places[name]

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def join(self, name: str) -> Place:
        """A request enters the queue: for the first time, or again after it had started."""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = Place(name, next(self._numbers), next(self._entries), self._started)
            self._first_time.append(place)
        else:
            place.queued = next(self._entries)
            if not place.waits:
                place.passed = self._has_passed(place)
                place.waits, place.behind, place.since = True, self._later_starts(place), self._started
                self._again[name] = place
        return place

    def start(self, name: str) -> None:
        """A request that waits starts; everybody who joined before it and still waits is overtaken once."""
        place = self._places[name]
        if not place.waits:
            return
        place.waits, place.started = False, self._started
        self._started += 1
        self._again.pop(name, None)
        insort(self._starts, place.joined)
        if len(self._starts) > self._keep:
            oldest = min(each.joined for each in self._places.values())
            del self._starts[: bisect_right(self._starts, oldest)]
            self._keep = max(self.KEEP, 2 * len(self._starts))

    def leave(self, name: str) -> None:
        """A request has ended, whether it ever started or not."""
        place = self._places.pop(name, None)
        if place is not None:
            place.waits = False
            self._again.pop(name, None)
            self._drop_front()
        if not self._places:
            self._starts.clear()

    def overtaken(self, place: Place) -> int:
        """How many that joined later have started while it waits, or had while it last waited."""
        return self._later_starts(place) - place.behind

    def most_overtaken(self, but: Collection[str] = ()) -> Place | None:
        """Of those that wait, but for some, the one that was overtaken most; the first to join if several were.

        Among those that never started it is the one that joined first.
        """
        self._drop_front()
        oldest = next((p for p in self._first_time if p.waits and p.started < 0 and p.name not in but), None)
        waiting = [place for place in self._again.values() if place.name not in but]
        if oldest is not None:
            waiting.append(oldest)
        return max(waiting, key=lambda place: (self.overtaken(place), -place.joined), default=None)

    def overtook(self, name: str, place: Place) -> bool:
        """Whether a request that runs joined later than one that waits, and started while that waited."""
        other = self._places.get(name)
        return (
            other is not None
            and not other.waits
            and other.joined > place.joined
            and other.started >= place.since
        )

    def _has_passed(self, place: Place) -> bool:
        oldest = self.most_overtaken()
        return oldest is not None and self.overtook(place.name, oldest)

    @property
    def kept(self) -> int:
        """Entries of any kind, for checks that nothing is kept."""
        return len(self._places) + len(self._starts) + len(self._first_time) + len(self._again)

    def _drop_front(self) -> None:
        while self._first_time and (self._first_time[0].started >= 0 or not self._first_time[0].waits):
            self._first_time.popleft()

    def _later_starts(self, place: Place) -> int:
        return len(self._starts) - bisect_right(self._starts, place.joined)
