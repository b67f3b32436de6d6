"""Live counters and histograms of an engine, for Prometheus.

An engine's scheduler and its HTTP server are two processes. So the meter writes into files, in the format of the
Prometheus client's multiprocess mode, and the server merges them when it is scraped. The client comes with the
engine; without a folder to write to there is no meter, and it is not imported.
"""

from __future__ import annotations

import json
import secrets
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidkv.adapters.shared.settings import AdapterSettings

if TYPE_CHECKING:
    from bidkv.strategies.base import Strategy

SOURCES = ("strategy", "engine", "kill_switch", "external", "reclaim")
"""Who chose a victim: the strategy, the engine in its place, the engine by the kill switch, somebody outside."""

INF = float("inf")


@dataclass(frozen=True)
class LiveMetric:
    """`labels` are those beside the engine's own; `buckets` are the upper bounds of a histogram's."""

    name: str  # as it is scraped, but a histogram's without _bucket, _sum, _count
    kind: str  # counter, histogram or gauge
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SECONDS = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, INF)
PREEMPTIONS = LiveMetric(
    "bidkv_preemptions_total",
    "counter",
    "Running requests that lost their KV cache, by who chose them",
    ("source",),
)
DISCARDED = LiveMetric(
    "bidkv_discarded_tokens_total", "counter", "Computed tokens of victims when they were preempted"
)
RECOMPUTED = LiveMetric(
    "bidkv_recomputed_tokens_total", "counter",
    "Tokens computed again after preemptions, counted when their request leaves",
)  # fmt: skip
REQUEST_PREEMPTIONS = LiveMetric(
    "bidkv_request_preemptions", "histogram", "How often a request that left had been preempted",
    buckets=(0, 1, 2, 3, 5, 10, INF),
)  # fmt: skip
SELECT_SECONDS = LiveMetric(
    "bidkv_select_seconds", "histogram", "Time of the victim policy for one choice", buckets=SECONDS
)
HOOK_SECONDS = LiveMetric(
    "bidkv_hook_seconds", "histogram", "Time of all that bidkv does for one preemption", buckets=SECONDS
)
STRATEGY_ERRORS = LiveMetric(
    "bidkv_strategy_errors_total", "counter", "Times a strategy raised and the engine chose instead"
)
UNEXECUTED = LiveMetric(
    "bidkv_unexecuted_choices_total",
    "counter",
    "Victims that were chosen and that the engine did not preempt",
)
CONTROL_ERRORS = LiveMetric("bidkv_control_errors_total", "counter", "New settings that could not be used")
KILL_SWITCH = LiveMetric("bidkv_kill_switch", "gauge", "1 while the engine decides for itself")
STRATEGY_INFO = LiveMetric(
    "bidkv_strategy_info", "gauge", "1 for the strategy in use",
    ("strategy", "admission", "victim", "retention", "params", "admission_params", "retention_params"),
)  # fmt: skip
LIVE_METRICS = (
    PREEMPTIONS, DISCARDED, RECOMPUTED, REQUEST_PREEMPTIONS, SELECT_SECONDS, HOOK_SECONDS, STRATEGY_ERRORS,
    CONTROL_ERRORS, UNEXECUTED, KILL_SWITCH, STRATEGY_INFO,
)  # fmt: skip


def strategy_labels(settings: AdapterSettings, strategy: Strategy) -> dict[str, str]:
    """Those of `STRATEGY_INFO`: all that tells one strategy from another but its seed."""
    values = (
        settings.strategy, strategy.admission.name, strategy.victim.name, strategy.retention.name,
        *(json.dumps(own, sort_keys=True) for own in (settings.params, settings.admission_params, settings.retention_params)),
    )  # fmt: skip
    return dict(zip(STRATEGY_INFO.labels, values, strict=True))


class Meter:
    """Counts over all runs of one engine. `labels` name the engine, e.g. `{"model_name": ..., "engine": "0"}`.

    Files are made in `folder`, which must be there and be the caller's to remove.
    """

    def __init__(self, folder: str | Path, labels: Mapping[str, str]):
        from prometheus_client.mmap_dict import MmapedDict, mmap_key

        self._key = mmap_key
        self._labels = dict(labels)
        own = f"bidkv-{secrets.token_hex(4)}.db"
        names = {"counter": f"counter_{own}", "histogram": f"histogram_{own}", "gauge": f"gauge_sum_{own}"}
        self._files = {kind: MmapedDict(str(Path(folder) / name)) for kind, name in names.items()}
        self._values: dict[str, float] = {}
        self._info: str | None = None
        self._preemptions = {source: self._series(PREEMPTIONS, source) for source in SOURCES}
        self._discarded, self._recomputed = self._series(DISCARDED), self._series(RECOMPUTED)
        self._strategy_errors, self._control_errors = (
            self._series(STRATEGY_ERRORS),
            self._series(CONTROL_ERRORS),
        )
        self._unexecuted = self._series(UNEXECUTED)
        self._kill_switch = self._series(KILL_SWITCH)
        self._histograms = {
            metric.name: self._buckets(metric)
            for metric in (REQUEST_PREEMPTIONS, SELECT_SECONDS, HOOK_SECONDS)
        }

    def started(self, settings: AdapterSettings, strategy: Strategy) -> None:
        """Another strategy decides, or the first."""
        if self._info is not None:
            self._set("gauge", self._info, 0)
        self._info = self._series(STRATEGY_INFO, *strategy_labels(settings, strategy).values())
        self._set("gauge", self._info, 1)
        self.switched(settings.kill_switch)

    def switched(self, kill_switch: bool) -> None:
        self._set("gauge", self._kill_switch, float(kill_switch))

    def preempted(self, event: Mapping[str, Any]) -> None:
        """`event` is a `preempt` event."""
        self._add(self._preemptions[event["source"]], 1)
        self._add(self._discarded, event["tokens_freed"])
        if event["select_ns"]:
            self._observe(SELECT_SECONDS, event["select_ns"] / 1e9)
        self._observe(HOOK_SECONDS, event["hook_ns"] / 1e9)

    def left(self, record: Mapping[str, Any]) -> None:
        """`record` is a `request` event."""
        self._observe(REQUEST_PREEMPTIONS, record["preemptions"])
        if record["recomputed"]:
            self._add(self._recomputed, record["recomputed"])

    def strategy_error(self) -> None:
        self._add(self._strategy_errors, 1)

    def unexecuted(self) -> None:
        self._add(self._unexecuted, 1)

    def control_error(self) -> None:
        self._add(self._control_errors, 1)

    def _series(self, metric: LiveMetric, *values: str) -> str:
        """The key of a series, which is scraped from now on."""
        base = metric.name.removesuffix("_total")
        names, texts = [*self._labels, *metric.labels], [*self._labels.values(), *values]
        key = self._key(base, metric.name, names, texts, metric.help)
        self._files[metric.kind].read_value(key)
        self._values.setdefault(key, 0.0)
        return key

    def _buckets(self, metric: LiveMetric) -> tuple[str, list[str]]:
        """The keys of a histogram's sum and of its buckets."""
        names, texts = list(self._labels), list(self._labels.values())
        total = self._key(metric.name, f"{metric.name}_sum", names, texts, metric.help)
        limits = ["+Inf" if limit == INF else str(float(limit)) for limit in metric.buckets]
        name = f"{metric.name}_bucket"
        keys = [self._key(metric.name, name, [*names, "le"], [*texts, le], metric.help) for le in limits]
        for key in (total, *keys):
            self._files["histogram"].read_value(key)
            self._values[key] = 0.0
        return total, keys

    def _add(self, key: str, amount: float, kind: str = "counter") -> None:
        self._set(kind, key, self._values[key] + amount)

    def _set(self, kind: str, key: str, value: float) -> None:
        self._values[key] = value
        self._files[kind].write_value(key, value, 0.0)

    def _observe(self, metric: LiveMetric, value: float) -> None:
        total, buckets = self._histograms[metric.name]
        self._add(total, value, "histogram")
        self._add(buckets[bisect_left(metric.buckets, value)], 1, "histogram")
