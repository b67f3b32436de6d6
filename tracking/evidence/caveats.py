"""What must be said in the same breath as a strategy's verdict: pairs left out or lost, and runs that were not alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tracking.evidence.neighbours import of_unknown_place
from tracking.evidence.outcomes import Block, Pairing, fell_behind
from tracking.evidence.statistics import PairedTest

MOSTLY = 0.5  # of a strategy's runs degraded: what was measured is the engine's own choice


def caveats_on(
    blocks: Mapping[str, Block], baseline: str, strategy: str, found: Pairing, test: PairedTest
) -> tuple[str, ...]:
    """Short phrases, the most important first; none where every seed gave a pair of equals. `test` is that of `found`."""
    both = [block for block in blocks.values() if block.get(baseline) and block.get(strategy)]
    runs, base_runs = (
        [run for block in both for run in block[name] if not run.failed] for name in (strategy, baseline)
    )
    behind = sum(any(fell_behind(block[baseline], run) for run in block[strategy]) for block in both)
    failed = int(np.isinf(found.strategy).sum()) - behind
    degraded, base_degraded = (sum(run.degraded for run in some) for some in (runs, base_runs))
    again = {name: _tried_again(both, name) for name in (strategy, baseline)}
    phrases = {
        f"{len(found.seeds)} of {len(blocks)} pairs" + _why(found, baseline): len(found.seeds) < len(blocks),
        f"failed in {failed} of {len(both)}": failed > 0,
        f"late client or fewer requests measured in {behind}, counted as failed": behind,
        f"degraded in {degraded} of {len(runs)} runs": degraded,
        f"the baseline degraded in {base_degraded} of {len(base_runs)}": base_degraded,
        "windows that may overlap": of_unknown_place(blocks),
        _mean_against(test): _mean_against(test),
        f"{again[strategy]} of {len(runs)} runs crashed before they went well": again[strategy],
        f"{again[baseline]} of the baseline's crashed before they went well": again[baseline],
        "another host than the baseline's": _apart(both, baseline, strategy, "host"),
        "another sweep than the baseline's": _apart(both, baseline, strategy, "bidkv.sweep"),
        "another commit than the baseline's": _apart(both, baseline, strategy, "git_commit"),
        "runs of several commits": len({run.tags.get("git_commit") for run in runs}) > 1,
    }
    return tuple(phrase for phrase, holds in phrases.items() if holds)


def mostly_degraded(blocks: Mapping[str, Block], strategy: str) -> bool:
    """Whether in most runs the engine chose in the strategy's place."""
    runs = [run for block in blocks.values() for run in block.get(strategy, ()) if not run.failed]
    return bool(runs) and sum(run.degraded for run in runs) > MOSTLY * len(runs)


def _mean_against(test: PairedTest) -> str:
    """Where the ratios, a seed each, say the opposite of the mean: a few slow seeds outweigh the others in it."""
    if test.failed or not test.by_ratio or not test.excludes_equal:
        return ""
    if (test.mean - test.baseline_mean) * test.effect.value >= 0:
        return ""
    return f"yet over all seeds together {test.mean / test.baseline_mean - 1:+.1%}"


def _why(found: Pairing, baseline: str) -> str:
    reasons = []
    if found.no_baseline:
        reasons.append(f"{baseline} has no result in {len(found.no_baseline)}")
    if found.absent:
        reasons.append(f"not run in {len(found.absent)}")
    return f" ({', '.join(reasons)})" if reasons else ""


def _tried_again(blocks: Sequence[Block], name: str) -> int:
    runs = [run for block in blocks for run in block[name] if not run.failed]
    return sum(run.crashes > 0 or int(run.tags.get("attempt", 1)) > 1 for run in runs)


def _apart(blocks: Sequence[Block], baseline: str, strategy: str, tag: str) -> bool:
    """Whether in any block no run of the two agrees in a tag that both have."""
    for block in blocks:
        mine, theirs = ({run.tags.get(tag) for run in block[name]} - {None} for name in (strategy, baseline))
        if mine and theirs and not mine & theirs:
            return True
    return False
