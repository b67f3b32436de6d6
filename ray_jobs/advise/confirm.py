"""What is said of a candidate: its effects on traces that the search never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import fmean

import numpy as np

from ray_jobs.advise.config import RecommendConfig, metric_of
from ray_jobs.advise.judge import value
from ray_jobs.workload.sources import has_sessions
from tracking.evidence.blocks import have_sessions
from tracking.evidence.config import GuardrailRule
from tracking.evidence.guardrails import GuardrailCheck, check_guardrail
from tracking.evidence.outcomes import Block
from tracking.evidence.statistics import Interval, PairedTest, holm, paired_test, verdict
from tracking.metrics.catalogue import METRICS
from tracking.store.reader import StoredRun

EFFECTS = (
    "ttft_rmst_s", "ttft_p99_s", "e2e_rmst_s", "e2e_p99_s", "throughput_tok_s", "goodput_req_s",
    "gpu_h_per_mtok", "prompt_gpus", "recomputed_gpu_s",
)  # fmt: skip
"""What is reported of every recommendation; the last three are of `ray_jobs.advise.worker.cost`."""
SESSION_EFFECTS = ("session_mean_s", "session_p90_s", "cached_share")
"""And first, where the workload has sessions."""


@dataclass(frozen=True)
class Effect:
    """One metric: means over the traces, and the change with its 95 % paired interval.

    `ratio` is candidate / stock, absent where a value is zero; `difference` is in the metric's unit.
    """

    metric: str
    stock: float
    candidate: float
    ratio: Interval | None
    difference: Interval


@dataclass
class Confirmation:
    """A candidate against stock on fresh traces. `word` is the verdict on the objective."""

    strategy: str
    pairs: int
    test: PairedTest
    word: str = ""
    effects: list[Effect] = field(default_factory=list)
    guardrails: list[GuardrailCheck] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)  # metrics whose guardrail it breaks, or seems to

    @property
    def recommended(self) -> bool:
        """Better, and no guardrail's interval or estimate beyond its limit."""
        return self.word == "better" and not self.beyond

    @property
    def unsure(self) -> list[str]:
        """Guardrails that these traces are too few for."""
        return [check.metric for check in self.guardrails if check.status in ("unsure", "not measured")]


def confirm(
    blocks: Mapping[str, Block], stock: str, names: Sequence[str], config: RecommendConfig, candidates: int
) -> list[Confirmation]:
    """The named strategies (in the order of the search) against stock.

    P-values are corrected over `candidates`: those named, and others that might have been.
    `blocks` are runs by trace and strategy; each is compared on the traces that it and stock have. Those named
    after one that has none are left out.
    """
    metric = metric_of(config)
    wholes = [
        {key: block for key, block in blocks.items() if block.get(stock) and block.get(name)}
        for name in names
    ]
    wholes = list(takewhile(bool, wholes))
    tests = [
        _paired(whole, stock, name, metric, config.practical)
        for name, whole in zip(names, wholes, strict=False)
    ]
    corrected = holm([test.p_value for test in tests] + [1.0] * (candidates - len(tests)))
    rules = [rule for rule in config.guardrails.rules if rule.applies(have_sessions(blocks))]
    found = []
    for name, whole, test, p in zip(names, wholes, tests, corrected, strict=False):
        checks = [check_guardrail(rule, name, whole, stock) for rule in rules]
        found.append(
            Confirmation(
                name, len(whole), test, verdict(test, p, METRICS[metric].better),
                [effect_of(whole, stock, name, key) for key in effects_of(config)], checks,
                [rule.metric for rule, check in zip(rules, checks, strict=True) if is_beyond(rule, check)],
            )
        )  # fmt: skip
    return found


def by_trace(runs: Sequence[StoredRun]) -> dict[str, Block]:
    """Runs as blocks: by trace, then by strategy. A run that failed belongs to the trace of its seed."""
    traces = {run.seed: run.trace_hash for run in runs if run.trace_hash}
    blocks: dict[str, dict[str, list[StoredRun]]] = {}
    for run in runs:
        block = blocks.setdefault(traces.get(run.seed, run.seed), {})
        block.setdefault(run.strategy, []).append(run)
    return blocks


def effect_of(blocks: Mapping[str, Block], stock: str, name: str, metric: str) -> Effect:
    test = _paired(blocks, stock, name, metric, 0.0)
    return Effect(metric, test.baseline_mean, test.mean, test.ratio, test.difference)


def effects_of(config: RecommendConfig) -> tuple[str, ...]:
    """The metrics that are reported."""
    return (*SESSION_EFFECTS, *EFFECTS) if has_sessions(config.workload.source.kind) else EFFECTS


def mean_values(blocks: Mapping[str, Block], name: str, metrics: Sequence[str]) -> dict[str, float]:
    """A strategy's own means of `metrics` over the traces."""
    runs = [run for block in blocks.values() for run in block.get(name, ())]
    values = {metric: [_value(run, metric) for run in runs] for metric in metrics if runs}
    return {metric: fmean(some) for metric, some in values.items()}


def _paired(blocks: Mapping[str, Block], stock: str, name: str, metric: str, matters: float) -> PairedTest:
    values = [
        [fmean(_value(run, metric) for run in block[which]) for block in blocks.values()]
        for which in (stock, name)
    ]
    return paired_test(*values, matters=matters)


def _value(run: StoredRun, metric: str) -> float:
    if metric in METRICS:
        return value(run, metric)
    return np.inf if run.failed else run.metrics.get(metric, np.inf)


def is_beyond(rule: GuardrailRule, check: GuardrailCheck) -> bool:
    """Whether the guardrail is broken, or the estimate is beyond its limit, be it by chance."""
    if check.status == "broken" or check.ratio is None:
        return check.status == "broken"
    value = check.ratio.value
    return value > rule.limit if rule.max_ratio is not None else value < rule.limit
