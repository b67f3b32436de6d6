"""Who waits, in which order, and who may pass a first one that does not fit."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bidkv.adapters.shared.tickets import Ticket, Tickets

Item = TypeVar("Item")
Key = tuple[float, ...]


@dataclass(frozen=True)
class LineRules:
    """What of an admission policy a line obeys (see `AdmissionPolicy`)."""

    preempted_first: bool = True
    backfill: int = 0
    max_overtaken: int | None = None


class WaitingLine(Generic[Item]):
    """A sorted view of tickets. Smallest (key, number) first, behind those that were preempted.

    With `backfill`, a first one that `fits` says no to may be passed, when `may_pass` says so, by the first of that
    many behind it of which `may_go_ahead` is true. Who was overtaken by `max_overtaken` others that joined later is
    next, and nobody passes it but who stands in front. `ready` is false of one that the engine will skip: it is
    shown to the engine as it comes. `runs` says whether one that was taken started; else the engine puts it back.
    """

    def __init__(
        self,
        tickets: Tickets[Item],
        key: Callable[[Item], Key],
        rules: LineRules = LineRules(),
        *,
        fits: Callable[[Item], bool] = lambda item: True,
        may_go_ahead: Callable[[Ticket[Item], Ticket[Item]], bool] | None = None,
        may_pass: Callable[[Ticket[Item]], bool] = lambda first: True,
        ready: Callable[[Item], bool] = lambda item: True,
        runs: Callable[[Item], bool] = lambda item: True,
    ):
        self._tickets, self._key, self._rules = tickets, key, rules
        self._fits, self._may_pass, self._ready, self._runs = fits, may_pass, ready, runs
        self._may_go_ahead = may_go_ahead or (lambda ticket, first: fits(ticket.item))
        self._order: list[tuple[Any, ...]] = []  # (…, number, ticket)
        self._places: dict[str, tuple[Any, ...]] = {}
        self._overdue: list[tuple[int, Ticket[Item]]] = []  # of those who stand here
        self._turns: deque[str] = deque()  # who is still to be asked again before all of them are once more
        self._offered: Ticket[Item] | None = None
        self._taken: Ticket[Item] | None = None
        self.passed: Ticket[Item] | None = None  # the first one, when another was offered in its place
        tickets.limit, tickets.reached = rules.max_overtaken, self._reached

    def close(self) -> None:
        """Another line takes over, or none."""
        self._tickets.limit = self._tickets.reached = None

    def enter(self, ticket: Ticket[Item]) -> None:
        """One who has a ticket takes its place, the first time or again."""
        if ticket.name in self._places:
            return
        if self._taken is ticket:
            self._taken = None
        place = self._place_of(ticket)
        self._places[ticket.name] = place
        if self._order and place < self._order[-1]:
            insort(self._order, place)
        else:
            self._order.append(place)
        limit = self._rules.max_overtaken
        if limit is not None and ticket.overtaken >= limit:
            insort(self._overdue, (ticket.number, ticket))
        self._offered = None

    def first(self) -> Item:
        """Who is to go next; raises IndexError if nobody stands here."""
        self.settle()
        self._offered = self._choose()
        return self._offered.item

    def head(self) -> Ticket[Item] | None:
        """Who is first by the rules, whether it fits or not."""
        return self._pool()[0][-1] if self._order else None

    def window(self) -> list[Ticket[Item]]:
        """The first and those that may pass it."""
        return [place[-1] for place in self._order[: 1 + self._rules.backfill]]

    def take(self) -> Item:
        """Removes whom `first` returned last, or would return."""
        if self._offered is None or self._offered.name not in self._places:
            self.first()
        ticket, self._offered = self._offered, None
        self._remove(ticket.name)
        self._taken = ticket
        return ticket.item

    def settle(self) -> None:
        """Counts the start of whom the engine took last, unless it was only skipped."""
        taken, self._taken = self._taken, None
        if taken is not None and self._runs(taken.item):
            self._tickets.started(taken.name)

    def leave(self, names: Iterable[str]) -> None:
        """Removes those of these who stand here."""
        for name in names:
            if name in self._places:
                self._remove(name)

    def resort(self, most: int | None = None) -> int:
        """Asks for keys again and puts in order whom it asked: everybody, or `most` of them, in turn, and those who
        may be next. How many were asked."""
        if most is None or len(self._order) <= most + 1 + self._rules.backfill:
            tickets = [place[-1] for place in self._order]
            self._order = sorted(map(self._place_of, tickets))
            self._places = {place[-1].name: place for place in self._order}
        else:
            tickets = self._due(most)
            for ticket in tickets:
                place = self._place_of(ticket)
                if place != self._places[ticket.name]:
                    self._remove_from_order(self._places[ticket.name])
                    insort(self._order, place)
                    self._places[ticket.name] = place
        self._offered = None
        return len(tickets)

    def _due(self, most: int) -> list[Ticket[Item]]:
        """Whose turn it is to be asked again."""
        turns = self._turns
        if not turns:
            turns.extend(self._places)
        names = dict.fromkeys(place[-1].name for place in self._order[: 1 + self._rules.backfill])
        for _ in range(min(most, len(turns))):
            names[turns.popleft()] = None
        return [self._places[name][-1] for name in names if name in self._places]

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Item]:
        return iter([place[-1].item for place in self._order])

    def _place_of(self, ticket: Ticket[Item]) -> tuple[Any, ...]:
        if ticket.number < 0 and self._rules.preempted_first:
            return (0, ticket.number, ticket)
        return (1, *self._key(ticket.item), ticket.number, ticket)

    def _remove(self, name: str) -> None:
        place = self._places.pop(name)
        ticket = self._remove_from_order(place)
        if not self._places:
            self._turns.clear()
        if self._overdue:
            self._overdue = [entry for entry in self._overdue if entry[1] is not ticket]
        if self._offered is ticket:
            self._offered = None

    def _remove_from_order(self, place: tuple[Any, ...]) -> Ticket[Item]:
        index = 0 if self._order[0] is place else bisect_left(self._order, place)
        return self._order.pop(index)[-1]

    def _reached(self, ticket: Ticket[Item]) -> None:
        if ticket.name in self._places:
            insort(self._overdue, (ticket.number, ticket))

    def _pool(self) -> list[tuple[Any, ...]]:
        """Who may be next: the first and those that may pass it, or who was overtaken too often and who is in front."""
        window = self._order[: 1 + self._rules.backfill]
        if not self._overdue:
            return window
        number, ticket = self._overdue[0]
        return [place for place in window if place[-1].number < number] + [self._places[ticket.name]]

    def _choose(self) -> Ticket[Item]:
        pool = self._pool()
        head = pool[0][-1]
        self.passed = None
        if not self._ready(head.item) or self._fits(head.item) or len(pool) == 1 or not self._may_pass(head):
            return head
        for place in pool[1:]:
            if self._may_go_ahead(place[-1], head):
                self.passed = head
                return place[-1]
        return head
