"""How much of each request's KV is shared, kept up to date while requests come and go."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

TOKEN = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class TreePath:
    """The leading tokens of a request that the radix tree owns, as 8-byte integers in a row.

    `namespace` tells paths apart that the tree never merges (LoRA adapter, cache salt).
    """

    namespace: Hashable
    tokens: bytes


class SharedPrefixes:
    """Length of the longest prefix that each request shares with any other one.

    In a radix tree equal paths are the same nodes, so what two requests share is a prefix, and the
    longest one is shared with a neighbour in sorted order. A request that leaves makes its two
    neighbours adjacent, and those share min(left, right): nothing is counted again.
    """

    def __init__(self) -> None:
        self._paths: dict[str, TreePath] = {}
        self._order: dict[Hashable, _Sorted] = {}

    def sync(self, paths: Mapping[str, TreePath]) -> None:
        """Makes `paths` (by request id) the current set; only what changed costs anything."""
        for name in [n for n, path in self._paths.items() if paths.get(n) != path]:
            self.remove(name)
        for name, path in paths.items():
            if name not in self._paths:
                self._paths[name] = path
                self._order.setdefault(path.namespace, _Sorted()).add(path.tokens, name)

    def remove(self, name: str) -> list[str]:
        """Forgets a request; returns the ids (at most two) whose shared length may have changed."""
        path = self._paths.pop(name)
        order = self._order[path.namespace]
        neighbours = order.remove(path.tokens, name)
        if not order.entries:
            del self._order[path.namespace]
        return neighbours

    def shared(self, name: str) -> int:
        """Leading tokens that at least one other request holds too."""
        return self._order[self._paths[name].namespace].longest[name]

    def path(self, name: str) -> TreePath | None:
        return self._paths.get(name)


@dataclass(slots=True)
class _Sorted:
    entries: list[tuple[bytes, str]] = field(default_factory=list)
    common: list[int] = field(default_factory=list)  # tokens that entries i and i + 1 share
    longest: dict[str, int] = field(default_factory=dict)  # tokens shared with the nearer neighbour

    def add(self, tokens: bytes, name: str) -> None:
        entries, at = self.entries, bisect_left(self.entries, (tokens, name))
        entries.insert(at, (tokens, name))
        around = [i for i in (at - 1, at) if 0 <= i < len(entries) - 1]
        between = [common_tokens(entries[i][0], entries[i + 1][0]) for i in around]
        self.common[max(0, at - 1) : min(at, len(self.common))] = between
        self._refresh(at - 1, at, at + 1)

    def remove(self, tokens: bytes, name: str) -> list[str]:
        at = bisect_left(self.entries, (tokens, name))
        del self.entries[at], self.longest[name]
        start, end = max(0, at - 1), min(at + 1, len(self.common))
        gone = self.common[start:end]
        self.common[start:end] = [min(gone)] if len(gone) == 2 else []
        return self._refresh(at - 1, at)

    def _refresh(self, *places: int) -> list[str]:
        names = []
        for at in places:
            if 0 <= at < len(self.entries):
                name = self.entries[at][1]
                self.longest[name] = max(self.common[max(0, at - 1) : at + 1], default=0)
                names.append(name)
        return names


def common_tokens(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two token strings."""
    size = min(len(a), len(b))
    left, right = (
        np.frombuffer(a, TOKEN, size // TOKEN.itemsize),
        np.frombuffer(b, TOKEN, size // TOKEN.itemsize),
    )
    differs = left != right
    first = int(differs.argmax()) if differs.size else 0
    return first if differs.size and differs[first] else left.size
