"""Writes a sweep into MLflow: one parent run, one child a run. Only the driver writes."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import yaml
from matplotlib.figure import Figure
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag

from ray_jobs.result import RunResult
from tracking.client import open_client, sqlite_file

if TYPE_CHECKING:
    from ray_jobs.config import TrackingConfig
    from ray_jobs.plan import PlannedRun

PARAM_LIMIT = 6000  # characters of a value, MLflow's own limit
TAG_LIMIT = 5000  # characters, under MLflow's own limit
BATCH_LIMIT = 100  # parameters a request, MLflow's own limit
LIVE = "RUNNING"
TABLE_COLUMNS_LEFT_OUT = ["itl_s"]  # a list a row; requests.parquet has it


class SweepStore:
    """The MLflow side of one sweep. `open` first, `close` last."""

    def __init__(self, config: TrackingConfig):
        file = sqlite_file(config.uri)
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"tracking.uri={config.uri!r}: cannot make its folder: {error}") from None
        self.config = config
        self.client = open_client(config.uri)
        experiment = self.client.get_experiment_by_name(config.experiment)
        self.experiment_id = experiment.experiment_id if experiment else self._create_experiment()
        self._live: set[str] = set()

    def open(self, sweep_hash: str, name: str, tags: dict[str, str]) -> dict[str, Run]:
        """Starts the parent run, or goes on with an interrupted one of the same hash.

        Returns the finished runs of the interrupted sweep by config hash (none for a new sweep).
        """
        interrupted = self._interrupted(sweep_hash) if self.config.resume else None
        if interrupted is None:
            tags = tags | {"bidkv.kind": "sweep", "bidkv.sweep_hash": sweep_hash}
            self.sweep_id = self._create(name, tags)
            return {}
        self.sweep_id = interrupted.info.run_id
        self.client.update_run(self.sweep_id, LIVE)
        self._live.add(self.sweep_id)
        finished = {}
        for run in self._children(self.sweep_id):
            if run.info.status == "FINISHED":
                finished[run.data.tags["bidkv.config_hash"]] = run
            elif run.info.status == LIVE:  # its driver died
                self.client.set_terminated(run.info.run_id, "KILLED")
        return finished

    def start(self, run: PlannedRun, attempt: int) -> str:
        """Creates the child run with its parameters, tags and trace; returns its id."""
        job = run.job
        tags = {
            "bidkv.kind": "run",
            "bidkv.sweep": self.sweep_id,
            "bidkv.config_hash": run.config_hash,
            "mlflow.parentRunId": self.sweep_id,
            "strategy": job.strategy.label,
            "admission": job.strategy.admission,
            "victim": job.strategy.victim,
            "workload": job.workload.name,
            "rate": f"{job.workload.rate:g}",
            "seed": str(job.seed),
            "repeat": str(job.repeat),
            "trace_hash": run.trace.hash,
            "block": str(run.block),
            "block_position": str(run.position),
            "attempt": str(attempt),
            "git_commit": git_commit(),
        }
        run_id = self._create(run.name, tags)
        params = [Param(key, str(value)[:PARAM_LIMIT]) for key, value in flatten(asdict(job)).items()]
        for start in range(0, len(params), BATCH_LIMIT):
            self.client.log_batch(run_id, params=params[start : start + BATCH_LIMIT])
        self.client.log_inputs(run_id, datasets=[_trace_input(run)])
        return run_id

    def finish(
        self,
        run_id: str,
        run: PlannedRun,
        result: RunResult,
        metrics: dict[str, float],
        flags: dict[str, str],
        figures: dict[str, Figure],
    ) -> None:
        """Logs everything a run left and ends it: FINISHED, or FAILED if the result says so."""
        now = int(time.time() * 1000)
        environment = result.environment
        tags = flags | {
            "engine": str(environment.get("engine")),
            "engine_version": str(environment.get("engine_version")),
            "hardware": f"{environment.get('device')} | {environment.get('cpu')} x{environment.get('cpus')}",
            "host": str(environment.get("host")),
            "status": result.status,
        }
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        with tempfile.TemporaryDirectory() as folder:
            result.save(Path(folder))
            (Path(folder) / "config.yaml").write_text(yaml.safe_dump(asdict(run.job), sort_keys=False))
            self.client.log_artifacts(run_id, folder)
        table = result.requests.drop(columns=TABLE_COLUMNS_LEFT_OUT)
        self.client.log_table(run_id, table, "requests.json")
        self._log_figures(run_id, figures)
        self._end(run_id, "FAILED" if result.status == "failed" else "FINISHED")

    def fail(self, run_id: str, reason: str) -> None:
        """Ends a run that left no result; the reason becomes its tag `error`."""
        self.client.set_tag(run_id, "error", reason[:TAG_LIMIT])
        self._end(run_id, "FAILED")

    def log_sweep(self, figures: dict[str, Figure], texts: dict[str, str]) -> None:
        """Logs figures and texts of the sweep as a whole, by file name."""
        self._log_figures(self.sweep_id, figures)
        for name, text in texts.items():
            self.client.log_text(self.sweep_id, text, name)

    def close(self, status: str) -> None:
        """Ends the parent run with `status`, and children that are still marked as running as killed."""
        for run_id in sorted(self._live - {self.sweep_id}):
            self._end(run_id, "KILLED")
        self._end(self.sweep_id, status)

    def _create_experiment(self) -> str:
        root = self.config.artifact_root
        location = None
        if root is not None:
            location = root if "://" in root else Path(root).resolve().as_uri()
        return self.client.create_experiment(self.config.experiment, artifact_location=location)

    def _create(self, name: str, tags: dict[str, str]) -> str:
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        self._live.add(run.info.run_id)
        return run.info.run_id

    def _end(self, run_id: str, status: str) -> None:
        self.client.set_terminated(run_id, status)
        self._live.discard(run_id)

    def _interrupted(self, sweep_hash: str) -> Run | None:
        """The newest sweep of this hash, unless it finished."""
        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.`bidkv.kind` = 'sweep' and tags.`bidkv.sweep_hash` = '{sweep_hash}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        return runs[0] if runs and runs[0].info.status != "FINISHED" else None

    def _children(self, sweep_id: str) -> list[Run]:
        children, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], f"tags.`bidkv.sweep` = '{sweep_id}'", page_token=token
            )
            children += page
            token = page.token
            if not token:
                return children

    def _log_figures(self, run_id: str, figures: dict[str, Figure]) -> None:
        for name, figure in figures.items():
            self.client.log_figure(run_id, figure, name)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay as they are."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def git_commit() -> str:
    """The commit of the checkout, "+dirty" if it has changes; "unknown" outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    root = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _trace_input(run: PlannedRun) -> DatasetInput:
    trace = run.trace
    profile = {
        "requests": len(trace.requests),
        "prompt_tokens": int(sum(len(r.prompt_token_ids) for r in trace.requests)),
        "output_tokens": int(sum(r.output_tokens for r in trace.requests)),
    }
    dataset = mlflow.entities.Dataset(
        name=f"{trace.name}-seed{trace.seed}",
        digest=trace.hash[:36],
        source_type="code",
        source=yaml.safe_dump({"workload": trace.name, "seed": trace.seed}),
        profile=str(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "trace")])
