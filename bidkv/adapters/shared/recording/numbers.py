"""Numbers in the place of block hashes: who has the folder sees which beginnings are the same, and nothing of what they say."""

from __future__ import annotations

from collections.abc import Iterable


class BlockNumbers:
    """Counts contents of blocks as they come. A hash of a text can be made by whoever guesses the text; a number cannot.

    A hash stands for all tokens up to its block's end, so new ones of one request come in a row, and runs are short
    to write. It remembers between one and two times `REMEMBERED` contents, the latest; who comes back later has
    another number. Numbers are of one start of the engine, as its prefix cache is.
    """

    REMEMBERED = 2**17

    def __init__(self) -> None:
        self._recent: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}
        self._next = 0

    def runs(self, hashes: Iterable[bytes]) -> list[int]:
        """First number and length of each run, one after another."""
        found: list[int] = []
        expected = -1
        for content in hashes:
            number = self._number(content)
            if number == expected:
                found[-1] += 1
            else:
                found += (number, 1)
            expected = number + 1
        return found

    def _number(self, content: bytes) -> int:
        number = self._recent.get(content)
        if number is not None:
            return number
        number = self._older.get(content)
        if number is None:
            number, self._next = self._next, self._next + 1
        if len(self._recent) >= self.REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[content] = number
        return number

    @property
    def held(self) -> int:
        return len(self._recent) + len(self._older)
