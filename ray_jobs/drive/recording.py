"""Makes what the store keeps of a run, beside the next run: metrics, figures and files, spooled."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tracking.metrics.catalogue import compute_metrics, run_flags
from tracking.metrics.classes import CLASSES_FILE, class_metrics, classes_json
from tracking.metrics.config import SloConfig
from tracking.metrics.ideal import IdealTimes
from tracking.plots.overview import run_figure
from tracking.records import check_complete
from tracking.reporting.page import png
from tracking.result import RunResult
from tracking.store.config import TrackingConfig
from tracking.store.record import SERVED_TAGS, Record, RunFacts
from tracking.store.spool import Spool

TABLE_COLUMNS_LEFT_OUT = ["itl_s"]  # a list a row; requests.parquet has it
ENGINE_TAGS = ("engine_id", "gpus", "engine_start_s")
ENGINES_EACH = 16  # engines whose results one recorder keeps up with


class Recorder:
    """On the driver's node, in a process of its own, so that the driver only moves references."""

    def __init__(self, sweep_id: str, tracking: TrackingConfig, ideals: dict[str, IdealTimes | None]):
        self.spool = Spool(tracking.spool, sweep_id)
        self.sweep_id = sweep_id
        self.ideals = dict(ideals)  # by block, those of its first run with step records

    def keep(
        self, result: RunResult, environment: dict[str, Any], run: RunFacts, slo: SloConfig, started_ms: int
    ) -> tuple[str | None, dict[str, float], dict[str, str]]:
        """Spools the record of a run; returns why it failed after all (or None), its metrics and flags."""
        result.environment = environment
        result.request_timeout_s = run.config["run"]["request_timeout_s"]
        check_complete(result)
        ideal = self._ideal(run.tags["block"], result)
        metrics = compute_metrics(result, slo, ideal, load_of_capacity(run.config["workload"]))
        flags = run_flags(result)
        if "calibration" in environment:
            flags["calibration"] = environment["calibration"]
        files, status = result_files(result, run.config), "FINISHED"
        try:
            files["timeline.png"] = png(run_figure(result))
        except Exception as error:  # a run is not lost because its figure cannot be drawn
            flags["figure_error"] = f"{type(error).__name__}: {error}"
        if result.status == "failed":
            status, flags = "FAILED", flags | {"error": result.error or "the engine says so"}
        self.spool.put(
            Record(
                self.sweep_id, status, started_ms, now_ms(), run, flags | environment_tags(result),
                metrics, files, ["requests.json", CLASSES_FILE],
            )
        )  # fmt: skip
        return flags.get("error"), metrics, flags

    def _ideal(self, block: str, result: RunResult) -> IdealTimes | None:
        """Those of the block; also kept beside the records, for a recorder that starts anew."""
        if self.ideals.get(block) is None:
            ideal = IdealTimes.of(result)
            if ideal is not None:
                ideal = IdealTimes(**self.spool.note(f"ideal.{block}", asdict(ideal)))
            self.ideals[block] = ideal
        return self.ideals[block]

    def fail(self, run: RunFacts, reason: str, traceback: str, log: bytes, started_ms: int) -> None:
        """Spools the record of a run that left no result: why, and what the engine said."""
        files = {"traceback.txt": traceback.encode(), "engine.log": log}
        files = {name: content for name, content in files.items() if content}
        self.spool.put(
            Record(self.sweep_id, "FAILED", started_ms, now_ms(), run, {"error": reason}, files=files)
        )


def load_of_capacity(workload: dict[str, Any]) -> float | None:
    """The offered rate by the engine's capacity; None where that was not looked for."""
    rate, capacity = workload.get("rate"), workload.get("capacity")
    return rate / capacity if rate and capacity else None


def environment_tags(result: RunResult) -> dict[str, str]:
    """What the store says of the engine and the machine."""
    environment = result.environment
    engine = {name: str(environment[name]) for name in ENGINE_TAGS if name in environment}
    if result.served_t is not None:
        engine |= dict(zip(SERVED_TAGS, map(str, result.served_t), strict=True))
    return engine | {
        "engine": str(environment.get("engine")),
        "engine_version": str(environment.get("engine_version")),
        "hardware": f"{environment.get('device')} | {environment.get('cpu')} x{environment.get('cpus')}",
        "host": str(environment.get("host")),
        "status": result.status,
    }


def result_files(result: RunResult, config: dict[str, Any]) -> dict[str, bytes]:
    """The artifacts of a run by name, without its figure."""
    files = saved_files(result)
    table = result.requests.drop(columns=TABLE_COLUMNS_LEFT_OUT)
    files["requests.json"] = table.to_json(orient="split", index=False, date_format="iso").encode()
    files[CLASSES_FILE] = classes_json(class_metrics(result)).encode()
    files["config.yaml"] = yaml.safe_dump(config, sort_keys=False).encode()
    return files


def saved_files(result: RunResult) -> dict[str, bytes]:
    """What `RunResult.load` reads."""
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def now_ms() -> int:
    return int(time.time() * 1000)
