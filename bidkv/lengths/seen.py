"""The outputs of finished requests, by kind: bounded in number and in age, and quick to ask."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from itertools import accumulate

KINDS = 256
"""How many kinds are kept that have enough outputs, and how many that do not have enough yet."""


LATEST = 16_384
"""An output is forgotten when so many later ones, of whatever kind, are known."""


class Sample:
    """The latest `window` lengths of one kind of request, sorted and in the order they came."""

    __slots__ = ("sorted", "_order", "_numbers", "_window", "_sums")

    def __init__(self, window: int):
        self.sorted: list[int] = []
        self._order: deque[int] = deque()
        self._numbers: deque[int] = deque()  # how many outputs of all kinds were known when each came
        self._window = window
        self._sums: list[int] | None = None  # of the shortest n, made when asked for

    def __len__(self) -> int:
        return len(self.sorted)

    def add(self, tokens: int, number: int) -> None:
        insort(self.sorted, tokens)
        self._order.append(tokens)
        self._numbers.append(number)
        self._sums = None
        if len(self._order) > self._window:
            self._drop_oldest()

    def forget_before(self, number: int) -> None:
        """Forgets what came before that one."""
        while self._numbers and self._numbers[0] < number:
            self._drop_oldest()

    def mean_above(self, tokens: int) -> float | None:
        """Mean of the lengths above `tokens`; None if there are none."""
        lengths, sums = self.sorted, self._sums
        if sums is None:
            sums = self._sums = list(accumulate(lengths, initial=0))
        first = bisect_right(lengths, tokens)
        count = len(lengths) - first
        return (sums[-1] - sums[first]) / count if count else None

    def quantile_above(self, tokens: int, share: float) -> int | None:
        """Of the lengths above `tokens`, the one that `share` of them stay below; None if there are none."""
        first = bisect_right(self.sorted, tokens)
        count = len(self.sorted) - first
        return self.sorted[first + min(count - 1, int(share * count))] if count else None

    def copy(self) -> Sample:
        twin = Sample(self._window)
        twin.sorted, twin._order, twin._numbers = self.sorted[:], self._order.copy(), self._numbers.copy()
        return twin

    def _drop_oldest(self) -> None:
        del self.sorted[bisect_left(self.sorted, self._order.popleft())]
        self._numbers.popleft()
        self._sums = None


Found = tuple[Sample | None, bool]


class SeenLengths:
    """A sample for each `max_tokens` with a prompt of some size, each `max_tokens`, and each power of two of it.

    Asked for a kind of which fewer than `enough` outputs are known, it answers with the next of these, and at
    last with the nearest power of two, those above first: who declares little can show little, so that a flood
    of requests with `max_tokens=1` says nothing of others. Sizes of prompts are powers of two. Clients may each
    declare what their context leaves, so there may be as many kinds as requests: those with enough outputs and
    the others are two lists, from which whichever was added to longest ago goes first.
    """

    def __init__(self, enough: int, window: int):
        self.enough, self._window = enough, window
        self._number = 0
        self._known: OrderedDict[int, Sample] = OrderedDict()
        self._scarce: OrderedDict[int, Sample] = OrderedDict()
        self._sizes: dict[int, Sample] = {}  # by the power of two
        self._answers: dict[int, Found] = {}  # until a sample more or less has enough

    def add(self, max_tokens: int, prompt_tokens: int, output_tokens: int) -> None:
        """One finished request."""
        self._number += 1
        kind = _kind(max_tokens, prompt_tokens)
        self._add_to(kind, output_tokens)
        self._add_to(kind & ~_PROMPT, output_tokens)
        size = _power(max_tokens)
        sample = self._sizes.get(size)
        if sample is None:
            sample = self._sizes[size] = Sample(self._window)
        sample.add(output_tokens, self._number)
        if len(sample) == self.enough:
            self._answers.clear()
        if self._number % 1024 == 0:
            self._age()

    def find(self, max_tokens: int, prompt_tokens: int) -> Found:
        """The sample to learn from, or None; and whether they could be as long as this one may be."""
        kind = max_tokens << 7 | (prompt_tokens | 1).bit_length()  # `_kind`: a step may ask for all that run
        answer = self._answers.get(kind)
        if answer is None:
            if len(self._answers) >= 4096:
                self._answers.clear()
            answer = self._answers[kind] = self._look_up(kind, max_tokens)
        return answer

    def copy(self, enough: int) -> SeenLengths:
        """The same outputs for another who asks for `enough`."""
        twin = SeenLengths(enough, self._window)
        twin._number = self._number
        twin._sizes = {size: sample.copy() for size, sample in self._sizes.items()}
        for kind, sample in (*self._scarce.items(), *self._known.items()):
            (twin._known if len(sample) >= enough else twin._scarce)[kind] = sample.copy()
        return twin

    def __len__(self) -> int:
        """How many kinds are kept."""
        return len(self._known) + len(self._scarce) + len(self._sizes)

    @property
    def outputs(self) -> int:
        """How many outputs are kept; one is of three kinds and counts three times."""
        samples = (*self._known.values(), *self._scarce.values(), *self._sizes.values())
        return sum(map(len, samples))

    def _add_to(self, kind: int, tokens: int) -> None:
        sample = self._known.get(kind)
        if sample is not None:
            sample.add(tokens, self._number)
            self._known.move_to_end(kind)
            return
        sample = self._scarce.pop(kind, None) or Sample(self._window)
        sample.add(tokens, self._number)
        if len(sample) < self.enough:
            self._scarce[kind] = sample
            if len(self._scarce) > KINDS:
                self._scarce.popitem(last=False)
            return
        self._known[kind] = sample
        if len(self._known) > KINDS:
            self._known.popitem(last=False)
        self._answers.clear()

    def _age(self) -> None:
        """Forgets what is too old, and the kinds that then have too few."""
        first = self._number - LATEST
        for sample in (*self._known.values(), *self._scarce.values(), *self._sizes.values()):
            sample.forget_before(first)
        for kind in [kind for kind, sample in self._known.items() if len(sample) < self.enough]:
            del self._known[kind]
        for kind in [kind for kind, sample in self._scarce.items() if not sample]:
            del self._scarce[kind]
        self._answers.clear()

    def _look_up(self, kind: int, max_tokens: int) -> Found:
        for own in (kind, kind & ~_PROMPT):
            if own in self._known:
                return self._known[own], True
        size = _power(max_tokens)
        known = [other for other, sample in self._sizes.items() if len(sample) >= self.enough]
        above = [other for other in known if other >= size]
        if above:
            return self._sizes[min(above)], True
        return (self._sizes[max(known)], False) if known else (None, True)


_PROMPT = 127
"""The bits of a kind that stand for the size of its prompt; 0 where it is of any."""


def _kind(max_tokens: int, prompt_tokens: int) -> int:
    return max_tokens << 7 | (prompt_tokens | 1).bit_length()


def _power(max_tokens: int) -> int:
    """The n of the smallest 2^n that is at least `max_tokens`; nothing declared is most of all."""
    return (max_tokens - 1).bit_length() if max_tokens > 0 else 1 << 20
