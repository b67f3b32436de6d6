"""Windows of a recorded file: which rows a seed has, and whether the seeds of a sweep share any.

A file of `total` requests has room for `total // count` windows of `count` that share none, spread evenly
over it. Which of them a seed has depends on these two numbers and the seed alone: not on the other seeds,
so that a seed added later, or a run alone, has the rows it would have had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ray_jobs.workload.mixing import mixed_order
from ray_jobs.workload.trace import Trace
from tracking.errors import require

STRETCHES = 32
FEW_SEEDS = 64  # of more in a row it does not matter how far apart they are


@dataclass(frozen=True)
class Rows:
    """The requests `begin` to below `end` of a file's `total` usable ones."""

    begin: int
    end: int
    total: int

    @property
    def size(self) -> int:
        return self.end - self.begin

    @property
    def held(self) -> int:
        """How many windows of this size the file holds."""
        return self.total // self.size

    @property
    def text(self) -> str:
        """As runs are tagged: "2170:4170/19366"."""
        return f"{self.begin}:{self.end}/{self.total}"


def rows_of(seed: int, count: int, total: int) -> Rows:
    """The window of a seed, with 1 <= count <= total. As many seeds in a row as the file holds have one each."""
    held = total // count
    slot = seed * _step(held) % held
    begin = slot * (total - count) // max(1, held - 1)
    return Rows(begin, begin + count, total)


def stretches(count: int, total: int) -> list[range]:
    """`count` of a file's rows as STRETCHES of neighbours, evenly spread over it: what all windows are like together.

    They are mixed: each part of the list has some of every part of the file.
    """
    parts = min(STRETCHES, count)
    bounds = [part * count // parts for part in range(parts + 1)]
    rows = [
        range(bounds[p] * total // count, bounds[p] * total // count + bounds[p + 1] - bounds[p])
        for p in range(parts)
    ]
    return [rows[part] for part in mixed_order(parts)]


@lru_cache(maxsize=64)
def _step(held: int) -> int:
    """How many windows lie between those of neighbouring seeds: of the steps that reach every window the one
    that keeps seeds in a row farthest apart, as a share of what is possible, however many they are."""
    most = min(held // 2, FEW_SEEDS)  # more cannot all be apart
    if most < 2:
        return 1
    steps = np.arange(1, held)[np.gcd(np.arange(1, held), held) == 1]
    between = steps[:, None] * np.arange(1, most) % held
    nearest = np.minimum.accumulate(np.minimum(between, held - between), axis=1)
    return int(steps[(nearest / (held // np.arange(2, most + 1))).min(axis=1).argmax()])


def check_windows(traces: Iterable[Trace], path: str | None) -> list[Rows]:
    """The windows that traces of one cell have, in the file's order; ValueError if two seeds have the same."""
    by_seed = {trace.seed: Rows(*trace.meta["rows"]) for trace in traces if "rows" in trace.meta}
    seeds: dict[Rows, int] = {}
    for seed, rows in sorted(by_seed.items()):
        twin = seeds.setdefault(rows, seed)
        cure = (
            f"seeds in a row, such as {min(by_seed)} to {min(by_seed) + len(by_seed) - 1}"
            if len(by_seed) <= rows.held
            else f"at most {rows.held} in a row, or workload.num_requests at most {rows.total // len(by_seed)}"
        )
        require(
            twin == seed, "seed", ",".join(map(str, sorted(by_seed))),
            f"{cure}: seeds {twin} and {seed} would have the same window, since the {rows.total} requests of "
            f"workload.source.path={path!r} hold {rows.held} windows of {rows.size}",
        )  # fmt: skip
    return sorted(seeds, key=lambda rows: rows.begin)


def smallest_gap(windows: Sequence[Rows]) -> int | None:
    """Requests between the two nearest of windows in the file's order; None for fewer than two."""
    gaps = [after.begin - before.end for before, after in zip(windows, windows[1:], strict=False)]
    return min(gaps, default=None)
