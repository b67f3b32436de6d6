"""On which kind of device the runs of each cell are: results of different devices must not meet."""

from __future__ import annotations

from collections import Counter


class DeviceKinds:
    """A cell's kind is that of the first place taken for it; it is open again if no engine came up there."""

    def __init__(self) -> None:
        self._kind: dict[str, str] = {}
        self._starting: Counter[str] = Counter()
        self._proven: set[str] = set()

    def suits(self, cell: str, kind: str) -> bool:
        """Whether a device of this kind is right for the cell."""
        return self._kind.get(cell, kind) == kind

    def take(self, cell: str, kind: str) -> None:
        """An engine starts for the cell on a device of this kind."""
        self._kind.setdefault(cell, kind)
        self._starting[cell] += 1

    def started(self, cell: str) -> None:
        """It came up."""
        self._starting[cell] -= 1
        self._proven.add(cell)

    def failed(self, cell: str) -> None:
        """It did not."""
        self._starting[cell] -= 1
        if not self._starting[cell] and cell not in self._proven:
            del self._kind[cell]

    def reuse(self, cell: str, kind: str) -> None:
        """A running engine of this kind goes on with the cell."""
        self._kind.setdefault(cell, kind)
        self._proven.add(cell)
