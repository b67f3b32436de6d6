"""What a reader must know before trusting a table of comparisons, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tracking.evidence.blocks import NO_VERDICT, ONE_TRACE, saturated_seeds
from tracking.evidence.neighbours import groups, of_unknown_place
from tracking.evidence.outcomes import Block, failed_share
from tracking.evidence.simulated import beyond_fit, guessed
from tracking.evidence.statistics import MIN_PAIRS

DIRTY = "+dirty"  # ends the commit of a checkout with changes, see `tracking.store.writer`

if TYPE_CHECKING:
    from tracking.evidence.paired import Table


def notes_on(table: Table, metrics: Sequence[str]) -> list[str]:
    """The most important first."""
    blocks = table.blocks
    return [
        *_on_controls(table),
        *_on_traces(blocks),
        *_on_seeds(table, blocks),
        *_on_windows(blocks),
        *_on_saturation(table),
        *sorted({note for run in table.runs if (note := guessed(run.tags))}),
        *beyond_fit(table.runs),
        *(note for name in (table.baseline, *table.strategies) for note in _on_runs(name, blocks)),
        *_on_metrics(table, metrics),
        *_on_commits(table),
        *_on_proof(table),
    ]


def _on_controls(table: Table) -> list[str]:
    """What an A/A control shows of the primary metric; a warning where it shows a difference."""
    notes = []
    for name in table.controls:
        row = table.find(table.primary, name)
        if row is None or row.test.pairs < 2:
            continue
        if row.test.excludes_equal and not row.test.equivalent:
            notes.append(
                f"{name} is {table.baseline} again (A/A), yet its interval of {table.primary} leaves out "
                "equal: something besides the strategy differs, so trust no verdict of this size here"
            )
    return notes


def _on_traces(blocks: Mapping[str, Block]) -> list[str]:
    same = [name.replace(ONE_TRACE, ", ") for name in blocks if ONE_TRACE in name]
    return [f"seeds {seeds} have the same trace: repeats of one pair, not pairs" for seeds in same]


def _on_seeds(table: Table, blocks: Mapping[str, Block]) -> list[str]:
    if table.state in NO_VERDICT or len(blocks) >= MIN_PAIRS:
        return []
    return [
        f"better or worse cannot be said with {len(blocks)} seed{'s' * (len(blocks) != 1)}: {MIN_PAIRS} are the fewest"
    ]


def _on_windows(blocks: Mapping[str, Block]) -> list[str]:
    """Windows of a recording: those that are neighbours, and those of which nobody knows where they were."""
    of = groups(blocks, list(blocks))
    if of is not None:
        return [
            f"{len(blocks)} windows of one recording, some next to each other: neighbours count together, so the "
            f"interval is that of {len(set(of))} block{'s' * (len(set(of)) > 1)}"
        ]
    if of_unknown_place(blocks):
        return [
            "windows of one recording, and nobody recorded which: they may overlap, and the interval be too narrow"
        ]
    return []


def _on_saturation(table: Table) -> list[str]:
    """Overload is the baseline's: what a strategy alone makes of the load is said of it by name."""
    full = saturated_seeds(table.blocks, table.baseline)
    notes = []
    if full:
        notes.append(
            f"saturated in {len(full)} of {len(table.blocks)} seeds: more came than {table.baseline} served, so that "
            "latencies depend on how long the run was"
        )
    for name in table.strategies:
        alone = [seed for seed in saturated_seeds(table.blocks, name) if seed not in full]
        if alone:
            notes.append(
                f"{name}: its queue grew to the end in {len(alone)} seeds in which {table.baseline}'s did not"
            )
    return notes


def _on_runs(name: str, blocks: Mapping[str, Block]) -> list[str]:
    """Runs of a strategy that are absent, failed, degraded or incomplete."""
    notes = []
    missing = [seed for seed, block in blocks.items() if not block.get(name)]
    if missing:
        notes.append(f"{name}: no finished run for seed {', '.join(missing)}")
    failed = [seed for seed, block in blocks.items() if any(run.failed for run in block.get(name, ()))]
    if failed:
        notes.append(f"{name}: failed for seed {', '.join(failed)}, which counts as the worst result there")
    runs = [run for block in blocks.values() for run in block.get(name, ()) if not run.failed]
    degraded = sum(run.degraded for run in runs)
    if degraded:
        notes.append(f"{name}: {degraded} of {len(runs)} runs degraded: the engine chose in its place")
    share = max((failed_share(run) for run in runs), default=0.0)
    if share > 0:
        notes.append(f"{name}: up to {share:.1%} of the requests of a run failed; mean latencies are bounds")
    return notes


def _on_metrics(table: Table, metrics: Sequence[str]) -> list[str]:
    absent = [metric for metric in metrics if all(c.metric != metric for c in table.comparisons)]
    notes = [f"not measured here: {', '.join(absent)}"] if absent else []
    slowdowns = [metric for metric in metrics if "slowdown" in metric and metric not in absent]
    if slowdowns and any("ideal_decode_s" not in run.metrics for run in table.runs):
        notes.append(
            f"{', '.join(slowdowns)}: of an older store, in which each run was its own measure; a strategy "
            "that slows every step is not seen"
        )
    return notes


def _on_commits(table: Table) -> list[str]:
    commits = sorted({run.tags["git_commit"] for run in table.runs if "git_commit" in run.tags})
    named = [commit[:8] + (DIRTY if commit.endswith(DIRTY) else "") for commit in commits]
    notes = [f"runs of {len(named)} commits: {', '.join(named)}"] if len(named) > 1 else []
    if any(name.endswith(DIRTY) for name in named):
        notes.append(
            "of a checkout with changes that were not committed: nobody knows whether all runs had the same"
        )
    return notes


def _on_proof(table: Table) -> list[str]:
    """Whether the seeds were new to the policies (`ray_jobs.drive.seeds`)."""
    commits = sorted({run.tags.get("proof", "") for run in table.runs})
    if commits == [""]:
        return []
    if "" in commits:
        return ["some of these runs are no proof: their seeds may have been used before"]
    return [f"a proof: seeds that were not used before, policies as in {', '.join(c[:12] for c in commits)}"]
