"""Who pays: what a strategy does to each class of requests (chat, summarisation, ...) and to the largest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from tracking.evidence.neighbours import groups
from tracking.evidence.outcomes import Block
from tracking.evidence.statistics import Interval, paired_test
from tracking.store.reader import StoredRun

if TYPE_CHECKING:
    from tracking.evidence.paired import Table


LARGEST = "largest 5 %"  # by prompt and output tokens, whatever their class


@dataclass(frozen=True)
class ClassResult:
    """One class under one strategy, against the baseline: mean E2E, and the share of missed deadlines.

    E2E counts a request up to the request timeout, and a failed one as that. The shares are the baseline's and
    the strategy's: `missed` deadlines (None where requests have none), and requests that were never served.
    """

    kind: str
    strategy: str
    pairs: int
    ratio: Interval
    missed: tuple[float, float] | None
    unserved: tuple[float, float] = (0.0, 0.0)


def who_pays(table: Table) -> list[ClassResult]:
    """Class by class, for each strategy, and the largest 5 %; a single class has no row of its own.

    Reads request tables. Where the store does not have them the answer is empty and a note of the table
    says so.
    """
    try:
        return _by_class(table)
    except ValueError as error:
        note = f"who pays is not known: {' '.join(str(error).split())}"
        table.notes += [note] if note not in table.notes else []
        return []


def _by_class(table: Table) -> list[ClassResult]:
    if not table.runs:
        return []
    kinds = sorted(map(str, table.runs[0].latencies["kind"].dropna().unique()))
    kinds = (kinds if len(kinds) > 1 else []) + [LARGEST]
    found = [
        _class_result(table.blocks, table.baseline, name, kind) for name in table.strategies for kind in kinds
    ]
    return [result for result in found if result is not None]


def _class_result(blocks: Mapping[str, Block], baseline: str, strategy: str, kind: str) -> ClassResult | None:
    both = {seed: block for seed, block in blocks.items() if block.get(baseline) and block.get(strategy)}
    seeds, times, shares, unserved = [], [], [], []
    for seed, block in both.items():
        sides = [[_of_class(run, kind) for run in block[name]] for name in (baseline, strategy)]
        if all(value is not None for side in sides for value in side):
            seeds.append(seed)
            times.append([mean(one[0] for one in side) for side in sides])
            shares.append([mean(one[1] for one in side) for side in sides])
            unserved.append([mean(one[2] for one in side) for side in sides])
    if not times:
        return None
    ratio = paired_test(*zip(*times, strict=True), by_ratio=True, groups=groups(both, seeds)).ratio
    missed = tuple(map(float, np.mean(shares, axis=0)))
    lost = tuple(map(float, np.mean(unserved, axis=0)))
    return ClassResult(kind, strategy, len(times), ratio, None if np.isnan(missed).any() else missed, lost)


def _of_class(run: StoredRun, kind: str) -> tuple[float, float, float] | None:
    """Mean E2E of a class in a run, in seconds, and its shares of missed deadlines (NaN if it has none) and of
    requests that were not served."""
    if run.failed:
        return np.inf, 1.0, 1.0
    table = run.latencies
    requests = table[table["largest"] if kind == LARGEST else table["kind"] == kind]
    if not len(requests):
        return None
    e2e = requests["e2e"].to_numpy(float)
    limit = float(run.params.get("run.request_timeout_s", np.inf))
    deadline = requests["deadline_s"].fillna(_configured_deadline(run, kind)).to_numpy(float)
    missed = np.nan if np.isnan(deadline).any() else float((e2e > deadline).mean())
    return float(np.minimum(e2e, limit).mean()), missed, float(np.isinf(e2e).mean())


def _configured_deadline(run: StoredRun, kind: str) -> float:
    """What the workload says of a class, for runs whose request table does not."""
    text = run.params.get(f"workload.source.components.{kind}.deadline_s", "None")
    return np.nan if text == "None" else float(text)
