"""A server's `/metrics`, where its records are not at hand: sums of whoever was served between two scrapes."""

from __future__ import annotations

from collections.abc import Callable

import requests

from bidkv.adapters.shared.clock import steady_time
from ray_jobs.engines.openai.counters import CONTROL_ERRORS, KILL_SWITCH, Counters, read_counters
from ray_jobs.live.served import Served

E2E = ("vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds")
TOKENS = ("vllm:generation_tokens_total", "sglang:generation_tokens_total")
ERRORS = {
    "bidkv_strategy_errors_total": "the strategy raised, and the engine chose in its place; its log says what",
    CONTROL_ERRORS: "it refused the control file; its log says why",
}
KEPT = {f"{name}_{part}" for name in E2E for part in ("sum", "count")} | {*TOKENS, *ERRORS, KILL_SWITCH}
ANSWER_S = 5.0
MISSES = 3  # scrapes in a row: then it is gone


class Scrapes(Served):
    """Raises ValueError if there is no `/metrics` of a server with a strategy at `url`."""

    def __init__(self, url: str, clock: Callable[[], float] = steady_time):
        self._url, self._clock = url.rstrip("/") + "/metrics", clock
        self._series: list[tuple[float, Counters]] = []
        self._misses, self._why = 0, ""
        self._started_again = False
        self.poll()
        if not self._series:
            raise ValueError(f"url={url!r}: no server answers at {self._url}: {self._why}")
        if KILL_SWITCH not in self._series[0][1].sums:
            raise ValueError(
                f"url={url!r}: must be a server with a strategy and --bidkv-control; its /metrics has no {KILL_SWITCH}"
            )

    def poll(self) -> None:
        try:
            answer = requests.get(self._url, timeout=ANSWER_S)
            answer.raise_for_status()
            counters = read_counters(answer.text)
        except (requests.RequestException, ValueError) as error:
            self._misses, self._why = self._misses + 1, str(error)
            return
        self._misses = 0
        kept = {name: value for name, value in counters.sums.items() if name in KEPT}
        before = self._series[-1][1].sums if self._series else {}
        fell = (kept.get(name, 0.0) < value for name, value in before.items() if name != KILL_SWITCH)
        self._started_again = self._started_again or any(fell)
        self._series.append((self._clock(), Counters(kept, {})))
        self.killed = bool(counters.sums.get(KILL_SWITCH))

    def trouble(self) -> str | None:
        if self._misses >= MISSES:
            return f"it does not answer any more: {self._why}"
        first, last = self._series[0][1].sums, self._series[-1][1].sums
        if self._started_again:
            return "it was started again: what its /metrics counts is less than it was"
        return next((text for name, text in ERRORS.items() if last.get(name, 0) > first.get(name, 0)), None)

    def values(self, begin: float, end: float) -> dict[str, float]:
        """Of those that ended from `begin` to `end`, between the scrapes next to both."""
        inside = [scrape for scrape in self._series if begin <= scrape[0] <= end]
        if len(inside) < 2:
            return {}
        (t, before), (later, after) = inside[0], inside[-1]
        name = after.first(tuple(f"{histogram}_count" for histogram in E2E))
        if name is None:
            return {}
        total = name.removesuffix("count") + "sum"
        count = after.sums[name] - before.sums.get(name, 0.0)
        if count <= 0:
            return {}
        found = {"requests": count, "e2e_mean_s": (after.sums[total] - before.sums.get(total, 0.0)) / count}
        tokens = after.first(TOKENS)
        if tokens is not None:
            found["throughput_tok_s"] = (after.sums[tokens] - before.sums.get(tokens, 0.0)) / (later - t)
        return found
