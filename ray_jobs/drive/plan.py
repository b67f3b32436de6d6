"""Turns the jobs of a sweep into blocks of paired runs on frozen traces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bidkv.retention.lru import Lru
from ray_jobs.drive.config import BenchConfig
from ray_jobs.workload.freeze import Parsed, freeze_trace
from ray_jobs.workload.left_out import left_out_line
from ray_jobs.workload.trace import Trace
from ray_jobs.workload.windows import Rows, check_windows, smallest_gap
from tracking.errors import require
from tracking.store.record import RunFacts, TraceFacts, flatten

NOT_PART_OF_A_RUN = (
    "cluster",
    "tracking",
    "capacity",
    "figures",
    "objective",
    "objective_seeds",
    "experiment",
    "deployed",
    "proof",
)


@dataclass
class PlannedRun:
    """One run to do: its job, its frozen trace and its place in a block."""

    job: BenchConfig
    trace: Trace
    config_hash: str
    cell: str = ""  # runs of one cell differ only in strategy, seed and repeat: they are compared
    apart: str = ""  # settings that tell its cell from others of this workload, load and engine, as typed
    block: int = 0
    position: int = 0

    def facts(self, attempt: int, commit: str) -> RunFacts:
        """What the store is told of this run."""
        job, requests = self.job, self.trace.requests
        tags = {
            "strategy": job.strategy.label,
            "admission": job.strategy.admission,
            "victim": job.strategy.victim,
            "retention": job.strategy.retention,
            "workload": job.workload.name,
            "rate": f"{job.workload.rate:g}",
            "seed": str(job.seed),
            "repeat": str(job.repeat),
            "block": str(self.block),
            "block_position": str(self.position),
            "attempt": str(attempt),
            "git_commit": commit,
        }
        if job.proof is not None:
            tags["proof"] = job.proof
        if "rows" in self.trace.meta:
            tags["rows"] = Rows(*self.trace.meta["rows"]).text
        trace = TraceFacts(
            name=self.trace.name,
            seed=self.trace.seed,
            hash=self.trace.hash,
            shape=self.trace.shape,
            requests=len(requests),
            prompt_tokens=int(sum(len(r.prompt_token_ids) for r in requests)),
            output_tokens=int(sum(r.output_tokens for r in requests)),
        )
        return RunFacts(self.name, self.config_hash, asdict(job), tags, trace)

    @property
    def name(self) -> str:
        job = self.job
        repeat = f" repeat={job.repeat}" if job.repeat else ""
        return " ".join(
            filter(
                None,
                (
                    f"{job.strategy.label} seed={job.seed}{repeat} {job.workload.name} {load_name(job)}",
                    self.apart,
                ),
            )
        )

    @property
    def group(self) -> str:
        """What it may be averaged with: a cell, by its workload, load and engine and what else tells it from others."""
        job = self.job
        where = f"{job.workload.name}, {load_name(job)}, {job.deployed or job.engine.kind}"
        return f"{where}, {self.apart}" if self.apart else where


def sweep_hash(blocks: Iterable[Sequence[PlannedRun]]) -> str:
    """What tells a sweep from others: an interrupted one is found again by it."""
    return digest([run.config_hash for block in blocks for run in block])


def sweep_name(runs: Sequence[PlannedRun]) -> str:
    """What a sweep is: "sim_quick 4×8" (strategies × seeds), "sim_full 12×12×5" (strategies × loads × seeds)."""
    jobs = [run.job for run in runs]
    loads = {(job.workload.name, load_name(job), job.engine.kind) for job in jobs}
    counts = [len({job.strategy.label for job in jobs}), len(loads), len({(j.seed, j.repeat) for j in jobs})]
    sizes = [str(count) for place, count in enumerate(counts) if place != 1 or count > 1]
    return f"{jobs[0].experiment or 'sweep'} " + "×".join(sizes)


def load_name(job: BenchConfig) -> str:
    """How heavy the load is: "3.8 req/s", "95% (7.9 req/s)", "0.6 sessions/s", "16 users" or "replay x2"."""
    arrivals = job.workload.arrivals
    if job.workload.load_share is not None:
        return f"{job.workload.load} ({job.workload.rate:g} req/s)"
    if arrivals.kind == "closed_loop":
        return f"{arrivals.users} users"
    if arrivals.kind == "replay":
        return f"replay x{1 / arrivals.time_scale:g}"
    return f"{job.workload.rate:g} {'sessions/s' if arrivals.kind == 'sessions' else 'req/s'}"


def plan_blocks(jobs: Sequence[BenchConfig]) -> list[list[PlannedRun]]:
    """Blocks in the order of the jobs; a block is every strategy on one engine config and trace.

    Inside a block the order of strategies is rotated by the block's number (A B C, B C A, ...), so
    that a machine that drifts hits all alike. A block runs on one engine, one run after another.
    Raises ValueError when two jobs are equal or a trace does not fit the engine.
    """
    check_labels(jobs)
    traces: dict[str, Trace] = {}
    parsed: Parsed = {}
    blocks: dict[str, list[PlannedRun]] = {}
    cells: dict[str, dict[str, Any]] = {}
    for job in jobs:
        trace_key = digest([asdict(job.workload), job.seed, job.engine.vocab_size, job.engine.max_model_len])
        if trace_key not in traces:
            traces[trace_key] = frozen(job, parsed)
        trace = traces[trace_key]
        settings = {k: v for k, v in asdict(job).items() if k not in NOT_PART_OF_A_RUN}
        # As in runs planned before there were any.
        for key in ("admission_params", "retention_params", "kill_switch", "files"):
            if not getattr(job.strategy, key):
                del settings["strategy"][key]
        if job.strategy.retention == Lru.name:
            del settings["strategy"]["retention"]
        if job.workload.sessions.think_scale == 1.0:
            del settings["workload"]["sessions"]["think_scale"]
        for key in (
            "until",
            "precision",
            "p99_precision",
            "min_requests",
        ):  # how the number of requests was found
            del settings["run"][key]
        if job.workload.source.kind != "csv":
            del settings["workload"]["source"]["columns"]
        leave_out_path(settings["engine"])
        if job.engine.replicas == 1:
            del settings["engine"]["replicas"]
            if not job.engine.disaggregation.engines:
                del settings["engine"]["router"]
        if not job.engine.disaggregation.engines:
            del settings["engine"]["disaggregation"]
        if job.engine.adapter:
            del settings["engine"]["adapter"]
        alike = {k: v for k, v in settings.items() if k != "strategy"}
        of_cell = {k: v for k, v in alike.items() if k not in ("seed", "repeat")}
        cell = digest(of_cell)
        cells[cell] = of_cell
        run = PlannedRun(job, trace, digest([settings, trace.hash]), cell)
        block = digest([alike, trace.hash])
        twin = next((r for r in blocks.get(block, []) if r.config_hash == run.config_hash), None)
        require(
            twin is None, "strategy", job.strategy.label,
            "swept once per block (two runs would be equal; sweep seed or repeat, or give one a strategy.label)",
        )  # fmt: skip
        blocks.setdefault(block, []).append(run)
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for runs in by_cell(blocks.values()):
        check_windows((run.trace for run in runs), runs[0].job.workload.source.path)
        groups.setdefault(runs[0].group, {})[runs[0].cell] = cells[runs[0].cell]
    apart = {cell: text for alike in groups.values() for cell, text in told_apart(alike).items()}
    for run in (run for runs in blocks.values() for run in runs):
        run.apart = apart[run.cell]
    planned = []
    for number, runs in enumerate(blocks.values()):
        shift = number % len(runs)
        order = runs[shift:] + runs[:shift]
        for position, run in enumerate(order):
            run.block, run.position = number, position
        planned.append(order)
    return planned


def told_apart(cells: dict[str, dict[str, Any]]) -> dict[str, str]:
    """For each of these settings, by their cell, those that the others have otherwise: "engine.num_blocks=600". Of a part
    with a name its name."""
    flat = {cell: flatten(settings) for cell, settings in cells.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    differ = [key for key in keys if len({str(settings.get(key)) for settings in flat.values()}) > 1]
    named = tuple(key.removesuffix("name") for key in differ if key.endswith(".name"))
    told = [key for key in differ if key.endswith(".name") or not key.startswith(named)]
    return {cell: ", ".join(f"{key}={settings.get(key)}" for key in told) for cell, settings in flat.items()}


def by_cell(blocks: Iterable[Sequence[PlannedRun]]) -> list[list[PlannedRun]]:
    """The runs of each cell, in order of appearance."""
    cells: dict[str, list[PlannedRun]] = {}
    for run in (run for block in blocks for run in block):
        cells.setdefault(run.cell, []).append(run)
    return list(cells.values())


def leave_out_path(engine: dict[str, Any]) -> None:
    """Where a model's config.json lies is no fact of a run, and most shapes have none; nor have engines that are started
    here what a server has."""
    shape = (engine["sim"] or {}).get("model_shape")
    if engine["kind"] != "endpoint":
        for key in ("url", "api", "control_file", "server"):
            del engine[key]
    if shape:
        del shape["path"]
        if not shape["config"]:
            del shape["config"]


def left_out_lines(blocks: Iterable[Sequence[PlannedRun]]) -> list[str]:
    """What of each file was left out or cut, a line each; traces of which the same is true say it once."""
    return list(dict.fromkeys(line for block in blocks if (line := left_out_line(block[0].trace))))


def windows_of(blocks: Iterable[Sequence[PlannedRun]]) -> dict[str, list[Rows]]:
    """The windows of recordings that each workload replays, by its name."""
    found: dict[str, list[Rows]] = {}
    for run in (run for block in blocks for run in block[:1]):
        if "rows" in run.trace.meta:
            found.setdefault(run.job.workload.name, []).append(Rows(*run.trace.meta["rows"]))
    return found


def window_lines(blocks: Iterable[Sequence[PlannedRun]]) -> list[str]:
    """For each cell that replays windows of a file how far they are apart, a line each."""
    lines = {}
    for runs in by_cell(blocks):
        job = runs[0].job
        windows = check_windows((run.trace for run in runs), job.workload.source.path)
        gap = smallest_gap(windows)
        if gap is not None:
            size, held, total = windows[0].size, windows[0].held, windows[0].total
            near = (
                "" if gap >= size else "; less than a window, so the interval is one of blocks of neighbours"
            )
            lines[
                f"{job.workload.name} {load_name(job)}: {len(windows)} windows of {size} requests, the nearest "
                f"{gap} apart; the file's {total} hold {held} such windows{near}"
            ] = None
    return list(lines)


def check_labels(jobs: Sequence[BenchConfig]) -> None:
    """Raises ValueError if one label stands for two strategies: results would be averaged over both."""
    meanings: dict[str, dict[str, Any]] = {}
    for job in jobs:
        strategy = asdict(job.strategy)
        known = meanings.setdefault(job.strategy.label, strategy)
        other = next((key for key in strategy if strategy[key] != known[key]), None)
        require(
            other is None, "strategy.label", job.strategy.label,
            f"another one for each strategy: it stands for {other}={known.get(other)!r} and {strategy.get(other)!r}",
        )  # fmt: skip


def frozen(job: BenchConfig, parsed: Parsed | None = None) -> Trace:
    """The job's trace, checked against the engine's limits."""
    engine = job.engine
    trace = freeze_trace(job.workload, job.seed, engine.vocab_size, engine.max_model_len, parsed)
    longest = max(len(r.prompt_token_ids) + r.output_tokens for r in trace.requests)
    require(
        longest <= engine.max_model_len,
        "engine.max_model_len", engine.max_model_len, f">= {longest}, the trace's longest request",
    )  # fmt: skip
    return trace


def digest(value: Any) -> str:
    """A short stable hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
