"""Windows of one recording that lie next to each other: they share its weather, so they are no independent pairs.

A stretch in which requests are long, or come in bursts, does not end where a window does. Windows with less
than a window's length between them are neighbours; neighbours are counted two (or, of an odd number, three)
at a time, as one observation each: Ibragimov and Mueller (2010), "t-statistic based correlation and
heterogeneity robust inference". Windows that share requests, of older stores and of several sweeps, are one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tracking.evidence.outcomes import Block

TOGETHER = 2  # neighbours that count as one
ROWS = re.compile(r"(\d+):(\d+)/(\d+)")  # as `ray_jobs.workload.windows.Rows.text` writes them


def window_of(block: Block) -> tuple[int, int] | None:
    """First row and the one after the last of the block's window; None if it is not one."""
    tags = (run.tags.get("rows") for runs in block.values() for run in runs)
    found = next((match for tag in tags if tag and (match := ROWS.fullmatch(tag))), None)
    return (int(found[1]), int(found[2])) if found else None


def groups(blocks: Mapping[str, Block], seeds: Sequence[str]) -> list[int] | None:
    """The number of its group for each seed, None if every seed stands alone."""
    windows = {seed: window for seed in seeds if (window := window_of(blocks[seed])) is not None}
    of = dict(zip(windows, chained(list(windows.values())), strict=True))
    if len(set(of.values())) == len(of):
        return None
    return [of.get(seed, len(of) + place) for place, seed in enumerate(seeds)]


def of_unknown_place(blocks: Mapping[str, Block]) -> bool:
    """Whether they are windows of a recording and nobody knows which: those of an older store may overlap."""
    runs = [run for block in blocks.values() for runs in block.values() for run in runs if not run.failed]
    window = any(
        run.params.get("workload.source.pick") == "window" and "rows" not in run.tags for run in runs
    )
    part = any(run.params.get("workload.num_requests") not in (None, "None") for run in runs)
    return window and part and len(blocks) > 1


def chained(windows: Sequence[tuple[int, int]]) -> list[int]:
    """The number of its group for each window (first row, the one after the last)."""
    chains: list[list[list[int]]] = []  # of stretches of the file, each of one window or of some that overlap
    end = None
    for place in sorted(range(len(windows)), key=lambda place: windows[place]):
        begin, after = windows[place]
        if end is None or begin - end >= after - begin:
            chains.append([])
        if end is None or begin >= end:
            chains[-1].append([])
        chains[-1][-1].append(place)
        end = after if end is None else max(end, after)
    of, first = [0] * len(windows), 0
    for chain in chains:
        count = max(1, len(chain) // TOGETHER)
        for number, stretch in enumerate(chain):
            for place in stretch:
                of[place] = first + number * count // len(chain)
        first += count
    return of
