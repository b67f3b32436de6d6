"""Who joined when, and who was overtaken how often: kept with each request, whatever happens to its queue."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item]):
    """One who waits, from joining until it starts or leaves. `number` is smaller for who joined earlier; whoever was
    preempted gets one below all others, so that the last preempted is the first, as in vLLM."""

    name: str
    item: Item
    number: int
    since: int  # starts that had happened when it joined
    home: int  # its number when it came
    t: float  # when it joined, in seconds
    overtaken: int = 0  # starts since then of those with a larger number
    blocked_t: float | None = None  # when it was first in line and did not fit, the first time
    passed: bool = False  # it ran after overtaking somebody, and was preempted
    note: Any = None  # what an adapter remembers of it


@dataclass(frozen=True, slots=True)
class Start:
    """One who runs and overtook somebody: its number when it came, and how many starts came before its latest."""

    number: int
    at: int


@dataclass(slots=True)
class Tickets(Generic[Item]):
    """All tickets of one engine. Being skipped, put back, sorted again or ruled by another strategy changes none.

    `reached(ticket)` is called when somebody was overtaken `limit` times. A start costs as many steps as there are
    older ones who wait: none in arrival order.
    """

    clock: Callable[[], float] = time.time
    limit: int | None = None
    reached: Callable[[Ticket[Item]], None] | None = None
    started_one: Callable[[Item], None] = lambda item: None
    passers: dict[str, Start] = field(default_factory=dict)  # who runs and overtook somebody that waited
    _waiting: dict[str, Ticket[Item]] = field(default_factory=dict)
    _by_number: list[Ticket[Item]] = field(default_factory=list)
    _homes: dict[str, int] = field(default_factory=dict)  # the first number of each who runs
    _next: int = 0
    _front: int = -1
    _starts: int = 0

    def issue(self, name: str, item: Item) -> Ticket[Item]:
        """A ticket behind all others, or the one that the request has."""
        known = self._waiting.get(name)
        if known is not None:
            return known
        ticket = Ticket(name, item, self._next, self._starts, self._next, self.clock())
        self._next += 1
        self._waiting[name] = ticket
        self._by_number.append(ticket)
        return ticket

    def preempted(self, name: str, item: Item, in_front: bool = True) -> Ticket[Item]:
        """A ticket for one who ran: in front of all others, or where it stood when it came."""
        number = home = self._homes.pop(name, self._next)
        passed = self.passers.pop(name, None) is not None
        self.left(name)  # a ticket of a start that nobody told of
        if in_front:
            number, self._front = self._front, self._front - 1
        ticket = Ticket(name, item, number, self._starts, home, self.clock(), passed=passed)
        self._waiting[name] = ticket
        insort(self._by_number, ticket, key=_number)
        return ticket

    def returned(self, name: str, item: Item) -> Ticket[Item]:
        """The ticket of one that an engine puts back; or one in front, as for who was preempted: what it had begun came
        to nothing, such as a load that failed."""
        return self._waiting.get(name) or self.preempted(name, item)

    def started(self, name: str) -> None:
        """Whoever joined earlier and still waits has been overtaken once more."""
        ticket = self._waiting.pop(name, None)
        if ticket is None:
            return
        place = self._place(ticket)
        del self._by_number[place]
        for older in self._by_number[:place]:
            older.overtaken += 1
            if older.overtaken == self.limit and self.reached is not None:
                self.reached(older)
        self._homes[name] = ticket.home
        if place or ticket.passed:
            self.passers[name] = Start(ticket.home, self._starts)
        self._starts += 1
        self.started_one(ticket.item)

    def left(self, name: str) -> None:
        """It waits and runs no more."""
        self._homes.pop(name, None)
        self.passers.pop(name, None)
        ticket = self._waiting.pop(name, None)
        if ticket is not None:
            del self._by_number[self._place(ticket)]

    def all(self) -> list[Ticket[Item]]:
        """In the order of joining."""
        return list(self._by_number)

    def get(self, name: str) -> Ticket[Item] | None:
        return self._waiting.get(name)

    def number(self, name: str) -> int:
        """For sorting who waits in the order of joining; who has no ticket comes last."""
        ticket = self._waiting.get(name)
        return self._next if ticket is None else ticket.number

    def waiting_among(self, names: Set[str]) -> Set[str]:
        return self._waiting.keys() & names

    def overtook(self, ticket: Ticket[Item]) -> Iterator[str]:
        """Who runs, joined later than this one and started while it waited; the last to start comes first."""
        for name, start in reversed(self.passers.items()):
            if start.number > ticket.number and start.at >= ticket.since:
                yield name

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Entries of any kind, for checks that nothing is kept."""
        return len(self._waiting) + len(self._by_number) + len(self._homes) + len(self.passers)

    def _place(self, ticket: Ticket[Item]) -> int:
        return bisect_left(self._by_number, ticket.number, key=_number)


def _number(ticket: Ticket) -> int:
    return ticket.number
