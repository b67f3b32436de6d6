"""What the attribution of many requests says: shares of means and tails, by class and by hour, and one sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracking.explaining.attribute import Attribution
from tracking.explaining.causes import BY_NAME, KNOWN, MEMORY, Cause

TAIL, FEWEST = 0.01, 10  # a p99 is that of the slowest hundredth, and of ten requests at least
SMALL = 0.005  # of the time: a cause below it everywhere has no row
IDLE = 0.1  # of the tail's TTFT: whoever waits for less does not lack anything


@dataclass(frozen=True)
class Measure:
    """One column: a latency of so many requests, in seconds, and the share of each cause in it."""

    name: str
    seconds: float
    requests: int
    shares: dict[str, float]


@dataclass(frozen=True)
class Group:
    """One row: requests of a class or an hour."""

    name: str
    requests: int
    ttft_s: float
    ttft_p99_s: float
    e2e_s: float
    largest: Cause
    share: float  # of the largest cause in their TTFT


def measures(found: Attribution) -> list[Measure]:
    """Mean and p99 of TTFT and E2E. The shares of a p99 are those of the slowest hundredth together."""
    columns = []
    for name, seconds, causes in (
        ("TTFT", found.requests["ttft_s"], found.ttft),
        ("E2E", found.requests["e2e_s"], found.e2e),
    ):
        values = seconds.to_numpy(float)
        there = ~np.isnan(values)
        tail = there & (values >= _threshold(values[there]))
        for what, rows, own in (
            ("mean", there, np.nanmean),
            ("p99", tail, lambda v: np.nanquantile(v, 1 - TAIL)),
        ):
            columns.append(
                Measure(f"{what} {name}", float(own(values)), int(rows.sum()), _shares(causes[rows]))
            )
    return columns


def groups(found: Attribution, column: str) -> list[Group]:
    """By `size` or `hour`, in their order."""
    rows = []
    for name, indices in found.requests.groupby(column, sort=False).indices.items():
        mask = np.zeros(len(found.requests), dtype=bool)
        mask[indices] = True
        part = found.of(mask)
        shares = _shares(part.ttft)
        largest = max(shares, key=lambda cause: shares[cause])
        ttft = part.requests["ttft_s"].dropna()
        rows.append(
            Group(
                str(name), len(part.requests), float(ttft.mean()), float(ttft.quantile(1 - TAIL)),
                float(part.requests["e2e_s"].mean()), BY_NAME[largest], shares[largest],
            )
        )  # fmt: skip
    if column == "size":
        order = part_order(found.requests)
        return sorted(rows, key=lambda row: order[row.name])
    return sorted(rows, key=lambda row: row.name)


def part_order(requests: pd.DataFrame) -> dict[str, int]:
    """Classes by the length of their prompts."""
    return requests.groupby("size")["prompt"].min().to_dict()


def rows_of(columns: list[Measure]) -> list[Cause]:
    """The causes that have a share worth a row in any column."""
    return [cause for cause in KNOWN if any(column.shares[cause.name] >= SMALL for column in columns)]


def sentence(found: Attribution) -> str:
    """What the tail's TTFT is, and what is lacking."""
    column = next(column for column in measures(found) if column.name == "p99 TTFT")
    waits = {
        name: share
        for name, share in column.shares.items()
        if not BY_NAME[name].does_work and name != "intake"
    }
    worst = max(waits, key=lambda name: waits[name])
    if sum(waits.values()) < IDLE:
        most = max(("prefill", "intake"), key=lambda name: column.shares[name])
        share, words = column.shares[most], BY_NAME[most].words
        return f"{share:.0%} of p99 TTFT is {words}: nobody waits for memory or a seat."
    lacking: dict[str, float] = {}
    for name, share in waits.items():
        what = BY_NAME[name].lacking
        if what is not None:
            lacking[what] = lacking.get(what, 0.0) + share
    lacking["compute"] = lacking.get("compute", 0.0) + column.shares["prefill"]
    first, *others = sorted(lacking, key=lambda what: -lacking[what])
    words = BY_NAME[worst].words
    waiting = words if worst in ("recompute", "again", "slowed") else f"waiting {words}"
    other = "compute" if first == MEMORY else MEMORY
    return f"{waits[worst]:.0%} of p99 TTFT is {waiting}; {first}, not {other}, is what you lack ({lacking[first]:.0%})."


def _threshold(values: np.ndarray) -> float:
    count = max(min(FEWEST, len(values)), round(TAIL * len(values)))
    return float(np.sort(values)[-count]) if len(values) else np.inf


def _shares(causes: pd.DataFrame) -> dict[str, float]:
    sums = causes.sum()
    total = float(sums.sum())
    return {name: float(value) / total if total else 0.0 for name, value in sums.items()}
