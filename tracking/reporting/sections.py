"""What stands in the report of a sweep, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import yaml

from tracking.evidence.blocks import NO_VERDICT
from tracking.evidence.paired import Table
from tracking.evidence.scale import scale_of
from tracking.evidence.surrogate import COSTS, PREDICTORS, preemption_costs, rank_correlation
from tracking.metrics.catalogue import METRICS
from tracking.metrics.samples import percentile
from tracking.reporting.figures import (
    calibration_figure,
    cdf_figure,
    forest_figure,
    kv_figure,
    overhead_figure,
    preemption_figure,
    rates_figure,
    run_figure,
)
from tracking.reporting.page import Grid, Listing, Note, Picture, Section
from tracking.reporting.render import (
    GUARDRAIL_HEADER,
    HEADER,
    VERDICT_COLUMN,
    comparison_cells,
    guardrail_cells,
    number,
    title,
)
from tracking.reporting.summary import classes_parts
from tracking.store.reader import StoredRun
from tracking.strategies import in_order

UNFOLDED = 24  # rows of a table that stand open
NAMES_OF_FACTS = {"git_commit": "commit (git_commit)"}

ByStrategy = Mapping[str, Sequence[StoredRun]]


def by_strategy(runs: Sequence[StoredRun], first: str) -> dict[str, list[StoredRun]]:
    """The runs of each strategy, the baseline `first` ahead of the others."""
    names = in_order((run.strategy for run in runs), first)
    return {name: [run for run in runs if run.strategy == name] for name in names}


def verdict_parts(table: Table, name: str, classes: bool = False) -> list:
    """The forest plot, guardrails and, folded, every comparison of one table; `classes`: also who pays."""
    parts: list = [Note(note, strong=True) for note in table.notes]
    if table.state not in NO_VERDICT and len(table.seeds) > 1:
        caption = (
            f"{title(table)}: ratio over paired blocks. The arrow at a metric points to its better side; an "
            "interval that crosses 1 shows no difference."
        )
        parts.append(Picture(f"{name}-verdicts", forest_figure(table), caption))
    if classes:
        parts += classes_parts(table, f"{name}-paid")
    if table.guardrails:
        cells = [guardrail_cells(check) for check in table.guardrails]
        caption = f"Guardrails, declared before the runs: {len(cells)} checks."
        folded = len(cells) > UNFOLDED
        parts.append(Grid(GUARDRAIL_HEADER, cells, caption, (VERDICT_COLUMN,), folded))
    rows, shown = [], None
    for row in table.comparisons:
        metric, *cells = comparison_cells(row)
        rows.append(["" if row.metric == shown else metric, *cells])
        shown = row.metric
    caption = (
        f"All {len(rows)} comparisons: {title(table)}. ↓ lower is better, ↑ higher is better. The verdict reads the "
        "ratio where there is one (every value positive), else the difference."
    )
    parts.append(Grid(HEADER, rows, caption, (VERDICT_COLUMN,), len(rows) > UNFOLDED))
    return parts


def scale_parts(runs: Sequence[StoredRun], baseline: str) -> list:
    """Where one workload and load lies on the axes that know no model and no device."""
    scale = scale_of([run for run in runs if run.strategy == baseline] or runs)
    return [Note(f"Scale: {scale.text}.")] if scale.text else []


def cell_parts(label: str, name: str, runs: ByStrategy, whole: bool = True) -> list:
    """Latencies and preemptions of one workload and load; if `whole`, also KV usage and calibration."""
    results = {strategy: [run.result for run in some] for strategy, some in runs.items()}
    params = next(iter(runs.values()))[0].params
    limits = {
        short: float(params[f"slo.{short}_s"]) for short in ("ttft", "tpot") if f"slo.{short}_s" in params
    }
    seed = next(iter(runs.values()))[0].seed
    same_seed = {s: next((r for r in some if r.seed == seed), some[0]).result for s, some in runs.items()}
    parts = [
        Picture(
            f"{name}-latencies",
            cdf_figure(results, limits, f"{label}: latencies"),
            "Above, the distribution over the requests of all runs: a curve that ends below 1 has requests that "
            "never got there. Below, the share that takes longer, on a log axis. The dashed line is the SLO.",
        ),
        Picture(
            f"{name}-preemptions",
            preemption_figure(
                {s: [r.metrics for r in some] for s, some in runs.items()}, f"{label}: preemptions"
            ),
            "Bars are means over runs, dots are runs. Nominal tax counts all tokens discarded by preemption; "
            "executed tax only those computed again, after what the prefix cache gave back.",
        ),
    ]
    if not whole:
        return parts
    parts.append(
        Picture(
            f"{name}-kv",
            kv_figure(same_seed, f"{label}: KV cache, seed {seed}"),
            "Blocks held by running requests, not those that are cached but free. Ticks are preemptions.",
        )
    )
    costs = {s: pd.concat([preemption_costs(result) for result in some]) for s, some in results.items()}
    return parts + calibration_parts(label, name, {s: table for s, table in costs.items() if len(table)})


def calibration_parts(label: str, name: str, costs: Mapping[str, pd.DataFrame]) -> list:
    """Rank correlations of predicted and realised cost, and the scatter."""
    if not costs:
        return [Note("No preemption to calibrate the surrogate with.")]
    pairs = [(predictor, cost) for predictor in PREDICTORS for cost in COSTS]
    rows = []
    for strategy, table in costs.items():
        rhos = [rank_correlation(table, *pair) for pair in pairs]
        shared = f"{table['shared'].mean():.0%}"
        rows.append(
            [strategy, str(len(table)), shared, *("-" if np.isnan(rho) else f"{rho:+.2f}" for rho in rhos)]
        )
    header = ["strategy", "events", "shared", *(f"{PREDICTORS[p]} → {COSTS[c]}" for p, c in pairs)]
    caption = (
        f"{label}: Spearman's ρ between what the surrogate predicts of a victim and what it really paid, "
        "over preemptions. Near 0 the prediction says nothing. shared: the victim was preempted more than "
        "once, so its recomputed tokens are shared out by tokens freed."
    )
    figure = calibration_figure(costs, f"{label}: predicted and realised cost")
    return [Grid(header, rows, caption), Picture(f"{name}-calibration", figure, "A dot is a preemption.")]


def rates_section(runs: Sequence[StoredRun]) -> Section | None:
    """Curves over the offered rate of each workload that was run at several."""
    section = Section("Over the load")
    for workload in sorted({run.tags["workload"] for run in runs}):
        rows = [
            {**run.metrics, "strategy": run.strategy, "rate": run.rate, "saturated": run.saturated}
            for run in runs
            if run.tags["workload"] == workload and run.rate > 0
        ]
        if len({row["rate"] for row in rows}) < 2:
            continue
        caption = "Dots are runs, lines join means over seeds. Hollow: the run was saturated."
        section.parts.append(Picture(f"{workload}-rates", rates_figure(rows, workload), caption))
    return section if section.parts else None


def overhead_section(runs: ByStrategy, selector_times: Mapping[str, Sequence[pd.DataFrame]]) -> Section:
    """What the policies cost the scheduler; `selector_times` has a table a run."""
    times = {strategy: pd.concat(selector_times[strategy], ignore_index=True) for strategy in runs}
    if not any(map(len, times.values())):
        return Section(
            "Selector overhead", [Note("No decision was timed: nobody was preempted, or in no real time.")]
        )
    rows = []
    for strategy, table in times.items():
        us = table["us"].to_numpy()
        hook = [run.metrics["hook_us_mean"] for run in runs[strategy] if "hook_us_mean" in run.metrics]
        if not len(us):
            rows.append([strategy, "0", *["-"] * 6])
            continue
        numbers = [us.mean(), np.median(us), percentile(us, 0.99), float(np.mean(hook)) if hook else np.nan]
        most = table["candidates"]
        rows.append([strategy, str(len(us)), f"{most.median():g}", f"{most.max()}", *map(number, numbers)])
    header = ["strategy", "decisions", "candidates p50", "max", "mean µs", "p50 µs", "p99 µs", "hook mean µs"]
    caption = "Time of the policy per decision, and of all that the adapter adds per preemption (hook)."
    figure = overhead_figure(times, "Selector overhead")
    return Section(
        "Selector overhead",
        [
            Grid(header, rows, caption),
            Picture("overhead", figure, "Dots are decisions, lines their medians."),
        ],
    )


def timeline_section(run: StoredRun) -> Section:
    """One run, request by request."""
    caption = (
        f"Run {run.run_id}. Recompute lasts from a resume to the next output token. Other runs have the same "
        "figure as timeline.png among their artifacts in MLflow."
    )
    return Section("One run, request by request", [Picture("timeline", run_figure(run.result), caption)])


def environment_of(run: StoredRun) -> dict[str, str]:
    """What the run's machine says of itself, and its KV pool."""
    start = run.result.run_start
    blocks, size = start.get("num_blocks"), start.get("block_size")
    pool = f"{blocks} blocks of {size} tokens, {blocks * size:,} tokens" if blocks and size else "unknown"
    return {"KV pool": pool, **run.result.environment}


def environment_section(
    runs: Sequence[StoredRun], environments: Sequence[Mapping], chosen: StoredRun, titles: Mapping
) -> Section:
    """Versions, hardware, traces and configuration."""
    facts: dict[str, set[str]] = {}
    for run in runs:
        for key in ("git_commit", "engine", "engine_version", "hardware"):
            facts.setdefault(key, set()).add(run.tags.get(key, "unknown"))
    for environment in environments:
        for key, value in environment.items():
            facts.setdefault(key, set()).add(str(value))
    facts = {NAMES_OF_FACTS.get(key, key): values for key, values in facts.items()}
    rows = [[key, "; ".join(sorted(values))] for key, values in facts.items()]
    traces = sorted({(titles[run.cell], int(run.seed), run.trace_hash) for run in runs})
    config = yaml.safe_dump(dict(sorted(chosen.params.items())), sort_keys=False)
    return Section(
        "Environment",
        [
            Grid(["what", "value"], rows),
            Grid(
                ["workload", "seed", "trace hash"],
                [[t, str(s), h] for t, s, h in traces],
                f"{len(traces)} frozen traces.",
                folded=len(traces) > UNFOLDED,
            ),
            Listing(f"Configuration of run {chosen.run_id} ({chosen.name})", config),
        ],
    )


def metrics_section() -> Section:
    """The definitions behind the numbers."""
    rows = [[m.name, m.unit, m.better, m.source, m.doc] for m in METRICS.values()]
    header = ["name", "unit", "better", "source", "what it is"]
    return Section("Metrics", [Grid(header, rows, f"Definitions of all {len(rows)} metrics.", folded=True)])
