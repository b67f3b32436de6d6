"""Keeps SGLang's waiting list in the order of an admission policy, and gives SGLang its own order back."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Any

from bidkv.adapters.sglang.places import Places

Key = tuple[Any, ...]


class QueueOrder:
    """The order of a list that belongs to SGLang: it appends, and takes out whom it admits or aborts.

    A list that was in order stays so while SGLang does no more than that, so only who is new is put into its place.
    """

    def __init__(self, places: Places):
        self._places = places
        self._new: list[Any] = []  # entered since the list was put in order
        self._in_order = False
        self._ours = False  # whether the list was left in another order than SGLang's

    def entered(self, req: Any) -> None:
        """SGLang has just appended a request."""
        self._new.append(req)

    def disturbed(self) -> None:
        """Keys hold no more, or somebody sorted the list."""
        self._in_order = False

    def give_back(self, queue: list[Any]) -> None:
        """Restores the order in which SGLang appended them: from now on SGLang decides."""
        if self._ours:
            queue.sort(key=lambda req: self._places[req.rid].queued)
        self._ours = self._in_order = False
        self._new.clear()

    def arrange(self, queue: list[Any], key: Callable[[Any], Key | None]) -> bool:
        """Sorts `queue` by `key`, then by who joined first. False, and the list as it was, if a key failed."""
        new, self._new = self._new, []
        keyed = new if self._in_order and _ends_with(queue, new) else queue
        if any(key(req) is None for req in keyed):
            self._in_order = False
            return False
        place = self._rank
        if keyed is new:
            del queue[len(queue) - len(new) :]
            for req in new:
                insort(queue, req, key=place)
        else:
            queue.sort(key=place)
        self._in_order = self._ours = True
        return True

    def first(self, queue: list[Any], name: str) -> None:
        """Moves a request to the front."""
        if queue[0].rid != name:
            index = next(i for i, req in enumerate(queue) if req.rid == name)
            queue.insert(0, queue.pop(index))
            self._in_order = False

    def _rank(self, req: Any) -> tuple[Key, int]:
        place = self._places[req.rid]
        return place.key, place.joined


def _ends_with(queue: list[Any], tail: list[Any]) -> bool:
    start = len(queue) - len(tail)
    return start >= 0 and all(queue[start + i] is req for i, req in enumerate(tail))
