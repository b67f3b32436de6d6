"""One run as its metrics see it: what several of them need is computed once, when first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tracking.metrics.config import SloConfig
from tracking.metrics.ideal import IdealTimes
from tracking.metrics.samples import kv_blocks, measured_requests
from tracking.result import RunResult


class RunView:
    """The requests outside the warm-up, and the events and steps that belong to them.

    Arrays have one value a request, in the order of `requests`; times in seconds since the run's start.
    `ttft`, `tpot` and `e2e` are inf where the request did not get there, `tpot` NaN for one token.
    """

    def __init__(
        self,
        result: RunResult,
        slo: SloConfig | None = None,
        ideal: IdealTimes | None = None,
        load: float | None = None,
    ):
        self.result = result
        self.slo = slo or SloConfig()
        self.ideal = ideal
        self.load = load  # the offered rate by the engine's capacity; None if nobody knows

    def of_kind(self, kind: str) -> RunView:
        """The same run with the requests of one class alone."""
        part = RunView(self.result, self.slo, self.ideal, self.load)
        part.requests = self.requests[self.requests["kind"] == kind]
        return part

    @cached_property
    def requests(self) -> pd.DataFrame:
        return measured_requests(self.result)

    def column(self, name: str) -> np.ndarray:
        """A column of `requests`; NaN throughout if the run was stored before there was such a column."""
        if name not in self.requests:
            return np.full(len(self.requests), np.nan)
        return self.requests[name].to_numpy(float)

    @cached_property
    def ok(self) -> np.ndarray:
        """Which requests completed."""
        return (self.requests["status"] == "ok").to_numpy()

    @cached_property
    def ttft(self) -> np.ndarray:
        return self.column("ttft")

    @cached_property
    def tpot(self) -> np.ndarray:
        return self.column("tpot")

    @cached_property
    def e2e(self) -> np.ndarray:
        return self.column("e2e")

    @cached_property
    def send_lag(self) -> np.ndarray:
        """Actual minus scheduled send time of the requests that were sent."""
        lag = self.column("sent_t") - self.column("scheduled_t")
        return lag[~np.isnan(lag)]

    @cached_property
    def read_lag(self) -> np.ndarray:
        """When the client had the whole answer minus when the engine had ended the request, of those that the engine
        recorded on a clock that both have."""
        ended = {
            event["id"]: event.get("finish_t") for event in self.result.events if event["type"] == "request"
        }
        by_engine = self.requests["request_id"].map(ended).to_numpy(float)
        lag = self.result.started_t + self.column("finish_t") - by_engine
        return lag[~np.isnan(lag)]

    @cached_property
    def gaps(self) -> np.ndarray:
        """All gaps between output chunks, one after another; none if no request completed."""
        if not self.ok.any():
            return np.array([])
        gaps = [
            np.asarray(gap, float) for gap in self.requests["itl_s"] if gap is not None and np.ndim(gap) == 1
        ]
        return np.concatenate(gaps) if gaps else np.array([])

    @cached_property
    def waited(self) -> np.ndarray:
        """How long each request had waited when the run ended: a lower bound for one that failed."""
        return self.end - self.column("scheduled_t")

    def bounded(self, latency: np.ndarray, per: np.ndarray | float = 1.0) -> np.ndarray:
        """A latency with that lower bound (over `per`) in place of inf; NaN if no request completed."""
        if not self.ok.any():
            return np.full(len(latency), np.nan)
        return np.where(np.isposinf(latency), self.waited / per, latency)

    def restricted(self, latency: np.ndarray) -> np.ndarray:
        """A latency up to the request timeout, which is also what a failed request is given."""
        limit = self.result.request_timeout_s
        return np.array([]) if limit is None else np.minimum(latency, limit)

    @cached_property
    def outputs(self) -> np.ndarray:
        """Output tokens of each request, at least one."""
        return np.maximum(self.column("output_tokens"), 1)

    @cached_property
    def end(self) -> float:
        """The run's end; never before the last thing seen of a request."""
        seen = self.requests[["scheduled_t", "sent_t", "first_token_t", "finish_t"]].to_numpy(float)
        last = np.nanmax(seen) if np.isfinite(seen).any() else 0.0
        return max(self.result.finished_t - self.result.started_t, last)

    @cached_property
    def start(self) -> float:
        """The first scheduled arrival."""
        return float(self.column("scheduled_t").min()) if len(self.requests) else np.nan

    @cached_property
    def window(self) -> float:
        """Seconds from the first scheduled arrival to the last finish; to the run's end if one is missing."""
        if not len(self.requests):
            return np.nan
        return float((self.column("finish_t").max() if self.ok.all() else self.end) - self.start)

    @cached_property
    def ids(self) -> set[str]:
        return set(self.requests["request_id"])

    @cached_property
    def all_preemptions(self) -> list[dict[str, Any]]:
        """Preemption events, those of the warm-up included."""
        return [event for event in self.result.events if event["type"] == "preempt"]

    @cached_property
    def preemptions(self) -> list[dict[str, Any]]:
        """Preemption events of these requests."""
        return [event for event in self.all_preemptions if event["victim"] in self.ids]

    @cached_property
    def preemption_counts(self) -> np.ndarray:
        counts = pd.Series([e["victim"] for e in self.preemptions], dtype=object).value_counts()
        return self.requests["request_id"].map(counts).fillna(0).to_numpy()

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row a session: `begin_t`, `end_t` (inf if a turn was not answered), `preempted_later`.

        The last says whether a turn after the first was ever preempted. Empty in a run without sessions.
        """
        table = pd.DataFrame(
            {
                "session": self.requests["session"] if "session" in self.requests else "",
                "begin_t": self.column("scheduled_t"),
                "end_t": np.where(self.ok, self.column("finish_t"), np.inf),
                "preempted_later": (self.preemption_counts > 0) & (self.column("turn") > 0),
            },
            index=self.requests.index,
        )
        table = table[table["session"].notna() & (table["session"] != "")]
        grouped = table.groupby("session", sort=False)
        return grouped.agg({"begin_t": "min", "end_t": "max", "preempted_later": "any"})

    @cached_property
    def session_seconds(self) -> np.ndarray:
        """From each session's first scheduled turn to its last answer; inf if a turn was not answered."""
        return (self.sessions["end_t"] - self.sessions["begin_t"]).to_numpy(float)

    @cached_property
    def recorded(self) -> pd.DataFrame:
        """The requests that the engine's own account tells of."""
        return self.requests[self.requests["executed_tokens"].notna()]

    @cached_property
    def executed(self) -> float:
        """Tokens executed for these requests."""
        return self.recorded["executed_tokens"].sum()

    @cached_property
    def freed_of_recorded(self) -> float:
        """Tokens that preemptions took from requests in `recorded`."""
        ids = set(self.recorded["request_id"])
        return sum(e["tokens_freed"] for e in self.preemptions if e["victim"] in ids)

    @cached_property
    def resume_delays(self) -> list[float]:
        """Seconds from each preemption to being scheduled again."""
        return [
            delay
            for event in self.result.events
            if event["type"] == "request" and event["id"] in self.ids
            for delay in event.get("resume_delays") or ()
        ]

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Engine steps that began within the window; empty without requests or step records."""
        steps = self.result.steps
        if not len(steps) or not len(self.requests):
            return pd.DataFrame()
        at = steps["t"] - self.result.started_t
        return steps[(at >= self.start) & (at <= self.start + self.window)]

    @cached_property
    def kv_share(self) -> np.ndarray:
        """Share of the KV blocks that running requests hold in each of `steps`; empty if nobody knows."""
        blocks = kv_blocks(self.result)
        if not blocks or not len(self.steps) or not self.steps["dur"].sum() > 0:
            return np.array([])
        return (self.steps["used_blocks"] / blocks).to_numpy(float)

    @cached_property
    def select_us(self) -> np.ndarray:
        """The policy's time for each decision, in microseconds."""
        return np.array([e["select_ns"] for e in self.all_preemptions if e.get("select_ns")], float) / 1e3

    @cached_property
    def hook_us(self) -> np.ndarray:
        """All that the adapter added to each preemption, in microseconds."""
        found = [e["hook_ns"] for e in self.all_preemptions if e.get("hook_ns") is not None]
        return np.array(found, float) / 1e3

    @cached_property
    def slowdown(self) -> np.ndarray:
        """E2E over what each request would have taken alone; empty unless that is known for all."""
        if self.ideal is None or not self.ok.any():
            return np.array([])
        alone = self.ideal.seconds(self.column("prompt_tokens"), self.column("true_output_tokens"))
        slowdown = self.bounded(self.e2e) / alone
        return slowdown if np.isfinite(slowdown).all() else np.array([])
