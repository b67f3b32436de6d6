"""What a server's own `/metrics` says: of the engine, of the strategy that decides, and how much there was of what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

COUNTED = {
    "preemptions": ("vllm:num_preemptions_total", "sglang:num_retracted_requests_total"),
    "tokens_freed": ("bidkv_discarded_tokens_total",),
    "tokens_recomputed": ("bidkv_recomputed_tokens_total",),
    "strategy_errors": ("bidkv_strategy_errors_total",),
}
"""Metrics of a run, each with the counters that tell it, whichever of them the server has."""
FINISHED = ("vllm:request_success_total", "sglang:num_requests_total")
CACHE_INFO, STRATEGY_INFO, KILL_SWITCH = "vllm:cache_config_info", "bidkv_strategy_info", "bidkv_kill_switch"
CONTROL_ERRORS = "bidkv_control_errors_total"


@dataclass(frozen=True)
class Counters:
    """One scrape: `sums` over all labels by name, `infos` the labels of those that are 1 and say something by them."""

    sums: Mapping[str, float]
    infos: Mapping[str, Mapping[str, str]]

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of the names that is there."""
        return next((name for name in names if name in self.sums), None)

    @property
    def strategy(self) -> str | None:
        """The strategy that decides; None if the engine does, or nobody says."""
        named = self.infos.get(STRATEGY_INFO)
        return named["strategy"] if named and not self.sums.get(KILL_SWITCH) else None


def read_counters(text: str) -> Counters:
    """A scrape out of its text. Raises ValueError if it is none."""
    sums: dict[str, float] = defaultdict(float)
    infos: dict[str, Mapping[str, str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value
            if sample.name.endswith("_info") and sample.value == 1:
                infos[sample.name] = sample.labels
    return Counters(dict(sums), infos)


def counted_between(before: Counters | None, after: Counters | None) -> dict[str, float]:
    """How much of each metric there was; what the server does not count is left out."""
    if before is None or after is None:
        return {}
    found = {}
    for metric, names in COUNTED.items():
        name = after.first(names)
        if name is not None:
            found[metric] = after.sums[name] - before.sums.get(name, 0.0)
    return found


def finished_between(before: Counters | None, after: Counters | None) -> float | None:
    """Requests that the server ended, anybody's; None if it does not say."""
    if before is None or after is None or (name := after.first(FINISHED)) is None:
        return None
    return after.sums[name] - before.sums.get(name, 0.0)
