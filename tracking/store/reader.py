"""Reads runs back from MLflow."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pyarrow.parquet import read_schema

from tracking.metrics.samples import are_largest, measured_requests
from tracking.metrics.stored import from_store
from tracking.result import RunResult
from tracking.store.address import short
from tracking.store.client import artifact_folder, open_client, sqlite_file

RESULT_FILES = ("requests.parquet", "steps.parquet", "events.jsonl", "run.json")  # what RunResult.save writes

# What may differ between runs of one cell: the strategy, the seed, and where and when it ran.
NOT_OF_THE_CELL = (
    "strategy.", "cluster.", "proof", "tracking.", "capacity.", "seed", "repeat", "objective", "figures", "experiment",
    "run.attempts", "run.log_schedule", "run.until", "run.precision", "run.p99_precision",
    "run.min_requests",
    "engine.python", "engine.start_timeout_s",
)  # fmt: skip
KNOWN_AFTER_A_RUN = ("engine", "engine_version")  # tags of a cell that a run which failed does not have
KEPT = ["kind", "status", "ttft", "tpot", "e2e", "deadline_s"]  # of the request table
LOST_BETWEEN_TURNS = 0.05  # of the prompt tokens; up to a block a turn is computed again in any case
NOT_THE_STRATEGY = "EngineStartError"  # begins the error of a run whose engine did not start

Cell = tuple[tuple[str, str], ...]


@dataclass
class StoredRun:
    """One run of the store. `cell` names everything but strategy and seed: only equal cells compare.

    A run that `failed` has tags and parameters, and neither metrics nor a result. `crashes` are the attempts at
    the same settings that failed, of this sweep and of others that were read with it.
    """

    run_id: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    load_result: Callable[[], RunResult]
    load_requests: Callable[[], pd.DataFrame] | None = None
    failed: bool = False
    crashes: int = 0

    @property
    def strategy(self) -> str:
        return self.tags["strategy"]

    @property
    def seed(self) -> str:
        return self.tags["seed"]

    @property
    def trace_hash(self) -> str:
        return self.tags.get("trace_hash", "")

    @property
    def observed(self) -> str:
        """What two seeds must not share to be two observations: the trace, whatever its token ids are."""
        return self.tags.get("trace_shape") or self.trace_hash

    @property
    def cell(self) -> Cell:
        """Sorted (key, value) pairs of workload, load, engine version and every other setting."""
        settings = {k: v for k, v in self.params.items() if not k.startswith(NOT_OF_THE_CELL)}
        tags = {key: self.tags.get(key, "") for key in ("workload", "rate", *KNOWN_AFTER_A_RUN)}
        return tuple(sorted((settings | tags).items()))

    def would_belong_to(self, cell: Cell) -> bool:
        """Whether a failed run is one of `cell`: it agrees in all that is known before a run."""
        known = [[pair for pair in some if pair[0] not in KNOWN_AFTER_A_RUN] for some in (self.cell, cell)]
        return known[0] == known[1]

    @cached_property
    def result(self) -> RunResult:
        """Requests, events and steps, downloaded on first use and kept until `release`."""
        return self.load_result()

    @cached_property
    def latencies(self) -> pd.DataFrame:
        """Of the measured requests `kind`, `status`, `ttft`, `tpot`, `e2e`, `deadline_s` (NaN if none), `tokens`
        (prompt and true output together, NaN if nobody knows) and `largest` (whether one of the largest 5 %).

        Read without the rest of the records if they are not here yet, and kept: it is small.
        """
        here = self.load_requests is None or "result" in self.__dict__
        requests = self.result.requests if here else self.load_requests()
        table = measured_requests(RunResult("finished", requests)).astype({"kind": "category"})
        table = table.reindex(columns=[*KEPT, "prompt_tokens", "true_output_tokens"])
        tokens = table["prompt_tokens"] + table["true_output_tokens"]
        return table[KEPT].assign(tokens=tokens, largest=are_largest(tokens.to_numpy(float)))

    def release(self) -> None:
        """Forgets `result`: all the records of a long sweep do not fit into memory at once."""
        self.__dict__.pop("result", None)

    @property
    def block(self) -> int:
        """The number of its block in the sweep; inside the first, strategies stand in the sweep's order."""
        return int(self.tags.get("block", 0))

    @property
    def position(self) -> int:
        return int(self.tags.get("block_position", 0))

    @property
    def rate(self) -> float:
        """Requests offered per second; 0 where arrivals follow no rate."""
        return float(self.tags.get("rate", 0.0))

    @property
    def pressed(self) -> bool | None:
        """Whether anybody waited for memory or was preempted, or sessions lost between turns what they had cached;
        None if nobody recorded it."""
        pressure = self.tags.get("pressure")
        if pressure == "unknown":
            return None
        lost = self.metrics.get("reprefill_tax_share", 0.0) > LOST_BETWEEN_TURNS
        return pressure != "no pressure" or self.metrics.get("hol_blocked_s", 0.0) > 0 or lost

    @property
    def saturated(self) -> bool:
        """Whether more came than is served: by the known capacity, else by what the run's queue did."""
        if self.load_of_capacity is not None:
            return self.load_of_capacity > 1
        return self.tags.get("saturated") == "true"

    @property
    def load_of_capacity(self) -> float | None:
        """The offered rate by the engine's capacity; None where it was not looked for, or nothing follows a rate."""
        capacity = self.params.get("workload.capacity", "None")
        if capacity == "None" or not float(capacity) > 0 or not self.rate > 0:
            return None
        return self.rate / float(capacity)

    @property
    def late_client(self) -> bool:
        return self.tags.get("late_client") == "true"

    @property
    def degraded(self) -> bool:
        return self.tags.get("degraded") == "true"


@dataclass
class StoredSweep:
    """A sweep's parent run and what its children left.

    `unfinished` names the runs without a result; `failed` are those of them that the strategy must
    answer for: they ended as failures, on an engine that had started, and no later attempt went well.
    """

    sweep_id: str
    name: str
    runs: list[StoredRun]
    unfinished: list[str]
    failed: list[StoredRun] = field(default_factory=list)

    @property
    def strategies(self) -> list[str]:
        """Labels of the finished runs in the order in which the sweep named them."""
        first = sorted(self.runs, key=lambda run: (run.block, run.position))
        return list(dict.fromkeys(run.strategy for run in first))


class RunReader:
    """Read access to an MLflow store. Raises ValueError, in one line, on what is not there."""

    def __init__(self, uri: str, experiment: str):
        file = sqlite_file(uri)
        if file is not None and not file.is_file():
            raise ValueError(f"tracking.uri={uri!r}: no such file; run `bidkv-bench` first")
        self.uri = uri
        self.client = open_client(uri)
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(sorted(e.name for e in self.client.search_experiments()))
            raise ValueError(f"tracking.experiment={experiment!r}: not in {uri}; it has {names}")
        self.experiment_id = found.experiment_id

    def sweep(self, wanted: str) -> StoredSweep:
        """The sweep with this run id (or its beginning) or name; "latest" is the newest of all."""
        parents = self._search("tags.`bidkv.kind` = 'sweep'")
        if not parents:
            raise ValueError("sweep: the experiment has none; run `bidkv-bench` first")
        parent = next((p for p in parents if _names(p, wanted)), None)
        if parent is None:
            known = ", ".join(f"{short(p.info.run_id)} ({p.info.run_name})" for p in parents[:5])
            raise ValueError(f"sweep={wanted!r}: not found; newest first: latest, {known}")
        return self._sweep(parent)

    def sweeps(self, wanted: Sequence[str]) -> StoredSweep:
        """Several sweeps as one; see `sweep`."""
        found = [self.sweep(w) for w in wanted]
        runs = {run.run_id: run for s in found for run in s.runs}
        done = {run.tags.get("bidkv.config_hash") for run in runs.values()}
        failed = {run.run_id: run for s in found for run in s.failed}
        crashed = Counter(run.tags.get("bidkv.config_hash") for run in failed.values())
        for run in runs.values():
            run.crashes += crashed[run.tags.get("bidkv.config_hash")]
        return StoredSweep(
            found[0].sweep_id,
            ", ".join(s.name for s in found),
            list(runs.values()),
            list(dict.fromkeys(name for s in found for name in s.unfinished)),
            [run for run in failed.values() if run.tags.get("bidkv.config_hash") not in done],
        )

    def _sweep(self, parent: Run) -> StoredSweep:
        children = self._search(f"tags.`bidkv.sweep` = '{parent.info.run_id}'")
        finished = [c for c in children if c.info.status == "FINISHED"]
        done = {c.data.tags.get("bidkv.config_hash") for c in finished}
        crashed = Counter(c.data.tags.get("bidkv.config_hash") for c in children if _is_failure(c))
        lost = [c for c in children if c.data.tags.get("bidkv.config_hash") not in done]
        failed = {c.data.tags.get("bidkv.config_hash"): self._failed(c) for c in lost if _is_failure(c)}
        return StoredSweep(
            parent.info.run_id,
            parent.info.run_name,
            [self._stored(c, crashed[c.data.tags.get("bidkv.config_hash")]) for c in reversed(finished)],
            sorted({c.info.run_name for c in lost}),
            list(failed.values()),
        )

    def _failed(self, run: Run) -> StoredRun:
        def nothing() -> RunResult:
            raise ValueError(f"run {run.info.run_name}: failed, it left no result")

        data = run.data
        return StoredRun(
            run.info.run_id, run.info.run_name, dict(data.tags), dict(data.params), {}, nothing, failed=True
        )

    def _stored(self, run: Run, crashes: int) -> StoredRun:
        run_id = run.info.run_id

        here = artifact_folder(run.info.artifact_uri)

        def load_result() -> RunResult:
            try:
                if here is not None:
                    return RunResult.load(here)
                with tempfile.TemporaryDirectory() as folder:
                    for name in RESULT_FILES:
                        self.client.download_artifacts(run_id, name, folder)
                    return RunResult.load(Path(folder))
            except (MlflowException, OSError) as error:
                raise ValueError(f"run {run.info.run_name}: no records in the store: {error}") from None

        def load_requests() -> pd.DataFrame:
            if here is not None and (here / "requests.parquet").is_file():
                return _without_gaps(here / "requests.parquet")
            with tempfile.TemporaryDirectory() as folder:
                try:
                    return _without_gaps(self.client.download_artifacts(run_id, "requests.parquet", folder))
                except (MlflowException, OSError) as error:
                    raise ValueError(
                        f"run {run.info.run_name}: no request table in the store: {error}"
                    ) from None

        data = run.data
        return StoredRun(
            run_id,
            run.info.run_name,
            dict(data.tags),
            dict(data.params),
            from_store(data.metrics),
            load_result,
            load_requests,
            crashes=crashes,
        )

    def _search(self, query: str) -> list[Run]:
        """All runs that match, newest first."""
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, order_by=["attributes.start_time DESC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs


def cell_titles(cells: Iterable[Cell]) -> dict[Cell, str]:
    """A short title for each cell: workload and load, and whatever tells it from others of that name.

    Different engines have hardly a setting in common, so their name is enough; nor have those of conf/deployed. The
    rest then tells cells of one engine apart.
    """
    cells = list(cells)
    telling = [key for key in ("engine", "deployed") if len({dict(cell).get(key) for cell in cells}) > 1]
    by_name: dict[str, list[Cell]] = {}
    for cell in cells:
        names = [dict(cell)[key] for key in telling if dict(cell).get(key)]
        by_name.setdefault(", ".join([_load_title(dict(cell)), *names]), []).append(cell)
    titles = {}
    for name, group in by_name.items():
        for cell in group:
            differing = [(k, v) for k, v in cell if any(dict(other).get(k) != v for other in group)]
            titles[cell] = ", ".join([name, *(f"{key}={value}" for key, value in differing)])
    return titles


def _load_title(settings: dict[str, str]) -> str:
    """As the driver names a load: "mixed at 3.8 req/s", "mixed at 16 users", "azure at replay x2"; a share of
    the capacity is the rate it came to."""
    kind = settings.get("workload.arrivals.kind")
    load = f"{settings['rate']} {'sessions/s' if kind == 'sessions' else 'req/s'}"
    if kind == "closed_loop":
        load = f"{settings['workload.arrivals.users']} users"
    elif kind == "replay" and not settings.get("workload.load", "").endswith("%"):
        load = f"replay x{1 / float(settings['workload.arrivals.time_scale']):g}"
    return f"{settings['workload']} at {load}"


def _without_gaps(file: str | Path) -> pd.DataFrame:
    """A request table without the list of gaps in each row, which is most of it."""
    return pd.read_parquet(file, columns=[name for name in read_schema(file).names if name != "itl_s"])


def _is_failure(run: Run) -> bool:
    """An interrupted driver says nothing about the strategy, nor does an engine that never started, unless
    the strategy has settings of its own for it."""
    started = not run.data.tags.get("error", "").startswith(NOT_THE_STRATEGY)
    own = any(key.startswith("strategy.engine.") for key in run.data.params)
    return run.info.status == "FAILED" and (started or own)


def _names(parent: Run, wanted: str) -> bool:
    name = parent.info.run_name or ""
    named = name == wanted or name.startswith(f"{wanted} ")  # "sim_quick" finds "sim_quick 4x8 dd0a798d"
    return wanted == "latest" or parent.info.run_id.startswith(wanted) or named
