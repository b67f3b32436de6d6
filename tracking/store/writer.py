"""Writes a sweep into MLflow: one parent run, one child a run. Only the driver writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mlflow
import yaml
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from tracking.metrics.stored import from_store, to_store
from tracking.store.address import short
from tracking.store.claim import claimed
from tracking.store.client import open_client, refused, sqlite_file
from tracking.store.columns import choose_columns
from tracking.store.config import TrackingConfig
from tracking.store.heartbeat import Heartbeat
from tracking.store.lease import Lease
from tracking.store.record import Finished, Record, TraceFacts, files_of, flatten

PARAM_LIMIT = 6000  # characters of a value, MLflow's own limit
TAG_LIMIT = 5000  # characters, under MLflow's own limit
BATCH_LIMIT = 100  # parameters a request, MLflow's own limit
NEWEST = 100  # sweeps of one hash that are looked at
LIVE, ENDED = "RUNNING", ("FINISHED", "FAILED")
LOGGED_TABLES = "mlflow.loggedArtifacts"  # the tag by which MLflow's pages find tables


class SweepStore:
    """The MLflow side of one sweep: `open` makes or takes over its parent run, `upload` brings records."""

    def __init__(self, config: TrackingConfig):
        """Makes the experiment if there is none. Raises ConnectionError or, on what cannot be used, ValueError."""
        self.config = config
        file = sqlite_file(config.uri)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        self.client = open_client(config.uri)
        try:
            self.experiment_id = self._experiment()
            choose_columns(self.client, self.experiment_id)
        except MlflowException as error:
            raise refused(config.uri, error) from None

    def open(self, sweep_hash: str, name: str, tags: dict[str, str]) -> None:
        """Starts the parent run, or goes on with an interrupted one of the same hash.

        The run is called `name` and the beginning of its id, by which commands find it. Raises ValueError if
        another process runs this sweep now.
        """
        with claimed(self.client, self.experiment_id, sweep_hash):
            interrupted = self._interrupted(sweep_hash) if self.config.resume else None
            self.lease = Lease.mine()
            if interrupted is None:
                tags = tags | {"bidkv.kind": "sweep", "bidkv.sweep_hash": sweep_hash} | self.lease.tags
                run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
                self.sweep_id = run.info.run_id
                self.client.update_run(self.sweep_id, name=f"{name} {short(self.sweep_id)}")
            else:
                self.sweep_id = interrupted.info.run_id
                self.client.update_run(self.sweep_id, LIVE)
                self._tag(self.sweep_id, self.lease.tags)

    def upload(self, folder: Path) -> None:
        """Brings a saved record into the store, all of it; raises what MLflow raises.

        A record of which a part is there already, since an upload broke off, is logged anew and the
        broken entry marked as killed.
        """
        record = Record.load(folder)
        if record.run is None:
            self._log(record.sweep_id, record, folder)
            return
        for half in self._children(record.sweep_id, f"and tags.`bidkv.record` = '{folder.name}'"):
            if half.info.status in ENDED:
                return  # it was all there, only not removed from the spool
            self.client.set_terminated(half.info.run_id, "KILLED")
        run = record.run
        tags = run.tags | {
            "bidkv.kind": "run",
            "bidkv.sweep": record.sweep_id,
            "bidkv.config_hash": run.config_hash,
            "bidkv.record": folder.name,
            "mlflow.parentRunId": record.sweep_id,
            "trace_hash": run.trace.hash,
            "trace_shape": run.trace.shape,
        }
        created = self.client.create_run(
            self.experiment_id, run_name=run.name, tags=tags, start_time=record.started_ms
        )
        run_id = created.info.run_id
        params = [Param(key, str(value)[:PARAM_LIMIT]) for key, value in flatten(run.config).items()]
        for start in range(0, len(params), BATCH_LIMIT):
            self.client.log_batch(run_id, params=params[start : start + BATCH_LIMIT])
        self.client.log_inputs(run_id, datasets=[_trace_input(run.trace)])
        self._log(run_id, record, folder)

    def beat(self) -> Heartbeat:
        """Keeps the lease alive until the returned heartbeat is stopped."""
        return Heartbeat(self.client, self.sweep_id, self.lease)

    def _log(self, run_id: str, record: Record, folder: Path) -> None:
        tags = {key: value[:TAG_LIMIT] for key, value in record.tags.items()}
        if record.tables:
            tables = [{"path": name, "type": "table"} for name in record.tables]
            tags[LOGGED_TABLES] = json.dumps(tables)
        metrics = [
            Metric(name, value, record.ended_ms, 0) for name, value in to_store(record.metrics).items()
        ]
        self.client.log_batch(
            run_id, metrics=metrics, tags=[RunTag(key, value) for key, value in tags.items()]
        )
        files = files_of(folder)
        if files is not None:
            self.client.log_artifacts(run_id, str(files))
        self.client.set_terminated(run_id, record.status, end_time=record.ended_ms)

    def finished(self) -> dict[str, Finished]:
        """The finished runs of this sweep by config hash; those whose driver died are marked as killed."""
        finished = {}
        for run in self._children(self.sweep_id):
            if run.info.status == "FINISHED":
                done = Finished(from_store(run.data.metrics), run.data.tags)
                finished[run.data.tags["bidkv.config_hash"]] = done
            elif run.info.status == LIVE:
                self.client.set_terminated(run.info.run_id, "KILLED")
        return finished

    def _experiment(self) -> str:
        """The experiment's id; it is made if there is none. Raises ValueError if its artifacts lie elsewhere."""
        name, root = self.config.experiment, self.config.artifact_root
        location = None
        if root is not None:
            location = root if "://" in root else Path(root).resolve().as_uri()
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another command may have made it meanwhile
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if location is not None and found.artifact_location != location:
            raise ValueError(
                f"tracking.artifact_root={root!r}: must be {found.artifact_location}, where the experiment "
                f"{name!r} of this store keeps its artifacts (or give another tracking.experiment)"
            )
        return found.experiment_id

    def _interrupted(self, sweep_hash: str) -> Run | None:
        """The newest sweep of this hash, unless it finished. Raises ValueError if a process runs one now."""
        sweeps = self.client.search_runs(
            [self.experiment_id],
            f"tags.`bidkv.kind` = 'sweep' and tags.`bidkv.sweep_hash` = '{sweep_hash}'",
            order_by=["attributes.start_time DESC"],
            max_results=NEWEST,
        )
        for sweep in sweeps:
            held = Lease.of(sweep.data.tags)
            if sweep.info.status == LIVE and held is not None and not held.is_mine and held.alive():
                raise ValueError(
                    f"this sweep is running already: {held}, MLflow run {short(sweep.info.run_id)} "
                    "(tracking.resume=false starts another one)"
                )
        return sweeps[0] if sweeps and sweeps[0].info.status != "FINISHED" else None

    def _children(self, sweep_id: str, more: str = "") -> list[Run]:
        children, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], f"tags.`bidkv.sweep` = '{sweep_id}' {more}", page_token=token
            )
            children += page
            token = page.token
            if not token:
                return children

    def _tag(self, run_id: str, tags: dict[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


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


def _trace_input(trace: TraceFacts) -> DatasetInput:
    profile = {
        "requests": trace.requests,
        "prompt_tokens": trace.prompt_tokens,
        "output_tokens": trace.output_tokens,
    }
    dataset = mlflow.entities.Dataset(
        name=f"{trace.name}-seed{trace.seed}",
        digest=trace.hash[:36],
        source_type="code",
        source=yaml.safe_dump({"workload": trace.name, "seed": trace.seed}),
        profile=str(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "trace")])
