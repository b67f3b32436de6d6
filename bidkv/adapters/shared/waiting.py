"""Who waits, in which order, and who may pass a first one that does not fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Key = tuple[float, ...]


@dataclass(slots=True, eq=False)
class Entry(Generic[Item]):
    """One who waits. `order` is (key, arrival, name); names are unique."""

    order: tuple[Key, float, str]
    item: Item
    ahead: int  # the line's departures at which nobody who came later has overtaken this one

    def __lt__(self, other: Entry[Any]) -> bool:
        return self.order < other.order


class WaitingLine(Generic[Item]):
    """Smallest (key, arrival, name) first, behind those that were put in front, the last of them first.

    A heap with lazy deletion: joining and leaving cost O(log n), `resort` O(n). With `backfill`, a
    first one that `fits` says no to may be passed, when `may_pass` says so, by the first of that many behind
    it that fits. Who was overtaken by `max_overtaken` others that joined later is the first, and is not passed.
    """

    def __init__(
        self,
        key: Callable[[Item], Key],
        fits: Callable[[Item], bool] = lambda item: True,
        backfill: int = 0,
        max_overtaken: int | None = None,
        may_pass: Callable[[], bool] = lambda: True,
    ):
        self._key, self._fits, self._may_pass = key, fits, may_pass
        self._backfill, self._max_overtaken = backfill, max_overtaken
        self._front: deque[tuple[str, Item]] = deque()
        self._heap: list[Entry[Item]] = []
        self._live: dict[str, Entry[Item]] = {}
        self._joined: deque[Entry[Item]] = deque()
        self._departures = 0
        self._offered: str | None = None

    def join(self, name: str, arrival: float, item: Item) -> None:
        order = (self._key(item), arrival, name)
        entry = Entry(order, item, self._departures + len(self._live))
        self._live[name] = entry
        self._joined.append(entry)
        heappush(self._heap, entry)
        self._offered = None

    def join_in_front(self, name: str, item: Item) -> None:
        self._front.appendleft((name, item))
        self._offered = None

    def first(self) -> Item:
        """Who is to go next; raises IndexError if nobody waits."""
        if self._front:
            return self._front[0][1]
        chosen = self._choose()
        self._offered = chosen.order[2]
        return chosen.item

    def take(self) -> Item:
        """Removes whom `first` returned last, or would return."""
        if self._front:
            return self._front.popleft()[1]
        if self._offered not in self._live:
            self.first()
        name, self._offered = self._offered, None
        item = self._live[name].item
        self._leave(name)
        return item

    def leave(self, names: Iterable[str]) -> None:
        """Removes those of these who wait."""
        gone = set(names)
        if any(name in gone for name, _ in self._front):
            self._front = deque(pair for pair in self._front if pair[0] not in gone)
        for name in gone & self._live.keys():
            self._leave(name)

    def resort(self) -> None:
        """Asks for every key again."""
        self._heap = list(self._live.values())
        for entry in self._heap:
            entry.order = (self._key(entry.item), *entry.order[1:])
        heapify(self._heap)

    def __contains__(self, name: str) -> bool:
        return name in self._live or any(name == other for other, _ in self._front)

    def __len__(self) -> int:
        return len(self._front) + len(self._live)

    def __iter__(self) -> Iterator[Item]:
        return chain((item for _, item in self._front), (e.item for e in sorted(self._live.values())))

    def _leave(self, name: str) -> None:
        del self._live[name]
        self._departures += 1

    def _choose(self) -> Entry[Item]:
        overdue = self._overdue()
        if overdue is not None:
            return overdue
        head = self._next()
        looked = [head]
        chosen = head
        if self._backfill and not self._fits(head.item) and self._may_pass():
            for _ in range(min(self._backfill, len(self._live) - 1)):
                looked.append(self._next())
                if self._fits(looked[-1].item):
                    chosen = looked[-1]
                    break
        for entry in looked:
            heappush(self._heap, entry)
        return chosen

    def _next(self) -> Entry[Item]:
        """Takes the smallest living entry off the heap."""
        while True:
            entry = heappop(self._heap)
            if self._live.get(entry.order[2]) is entry:
                return entry

    def _overdue(self) -> Entry[Item] | None:
        """Who was overtaken often enough. The one that waits longest was overtaken most: look at it alone."""
        if self._max_overtaken is None:
            return None
        while self._live.get(self._joined[0].order[2]) is not self._joined[0]:
            self._joined.popleft()
        oldest = self._joined[0]
        return oldest if self._departures - oldest.ahead >= self._max_overtaken else None
