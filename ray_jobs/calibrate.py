"""Fits the simulator's step-time model to a real engine: `bidkv-calibrate steps=[…] name=…`.

Reads step logs that the real engine wrote (files, folders of saved runs, MLflow run ids), fits the
efficiencies and overheads of a model shape on a device, reports the error on held-out steps, and
writes the fit with its origin into `conf/calibration/`, for
`engine=vllm_sim calibration@engine.sim.calibration=<name>`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from ray_jobs.engines.sim.build import work_of
from ray_jobs.engines.sim.calibration import EFFICIENCIES, OVERHEADS, Calibration
from ray_jobs.engines.sim.fit import StepErrors, fit
from ray_jobs.engines.sim.hardware import Hardware
from ray_jobs.engines.sim.recorded import RecordedSteps, digest, read_recorded_steps
from ray_jobs.engines.sim.shape import ModelShape
from tracking.cli import CONF, exit_on_bad_input, run_command
from tracking.errors import require
from tracking.no_effect import idle_store_keys
from tracking.places import replace_text, require_file
from tracking.store.config import TrackingConfig
from tracking.typed import Idle, refuse_idle, refuse_unknown, typed

FOLDER = CONF / "calibration"


@dataclass
class CalibrateConfig:
    """Step logs of one model on one device, and where the fit goes."""

    steps: list[str] = MISSING
    name: str = MISSING
    model_shape: ModelShape = MISSING
    hardware: Hardware = MISSING
    start: Calibration = field(
        default_factory=Calibration
    )  # where the fit starts; what steps cannot tell stays near it
    hold_out: float = 0.25  # share of the steps that only check the fit
    out: str | None = None  # a .yaml file; null = conf/calibration/<name>.yaml
    note: str = ""  # for the record
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        require(len(self.steps) > 0, "steps", self.steps, "at least one step log")
        require(0 < self.hold_out <= 0.5, "hold_out", self.hold_out, "in (0, 0.5]")
        if self.out is not None:
            require_file("out", self.out, ".yaml")
        allowed = self.name.replace("-", "").replace(".", "").replace("_", "").isalnum()
        require(allowed, "name", self.name, "letters, digits, dots, hyphens and underscores")


ConfigStore.instance().store(name="calibrate_schema", node=CalibrateConfig)


def idle_keys(config: CalibrateConfig) -> Iterator[Idle]:
    """A path that no shape is read from, and what only concerns who writes to the store."""
    yield from idle_store_keys()
    if not config.model_shape.config:
        because = "the shape is declared in conf/model_shape; model_shape=from_config reads the file"
        yield Idle("model_shape.path", because)


def calibrate(config: CalibrateConfig) -> tuple[Calibration, StepErrors, StepErrors]:
    """The fit with its origin, and its errors on fitted and held-out steps. Raises ValueError on bad logs."""
    logs = [read_recorded_steps(source, config.tracking.uri) for source in config.steps]
    shape, hardware = config.model_shape, config.hardware
    work = work_of(shape)
    steps = [log.steps for log in logs]
    fitted, trained, held = fit(steps, shape, hardware, config.start, config.hold_out, work)
    origin = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "model_shape": shape.name,
        "hardware": hardware.name,
        "engine": _common(logs, "engine"),
        "engine_version": _common(logs, "engine_version"),
        "scheduler": _common(logs, "scheduler"),
        "measured_on": _common(logs, "device") + ", " + _common(logs, "cpu"),
        "steps": [log.name for log in logs],
        "steps_sha256": digest(logs),
        "fitted_steps": _rounded(trained),
        "held_out_steps": _rounded(held),
        "note": config.note,
    } | fitted.origin
    return replace(fitted, name=config.name, fitted=True, origin=origin), trained, held


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Replaces `path` in one step."""
    values = asdict(calibration)
    values |= {name: float(f"{values[name]:.5g}") for name in (*EFFICIENCIES, *OVERHEADS)}
    text = yaml.safe_dump(values, sort_keys=False, width=110)
    replace_text(path, f"# Written by bidkv-calibrate; `origin` says from what.\n{text}")


def _common(logs: list[RecordedSteps], key: str) -> str:
    values = sorted({str(log.environment.get(key, "unknown")) for log in logs})
    if len(values) > 1:
        raise ValueError(f"steps: logs of different engines, {key} is {' and '.join(values)}")
    return values[0]


def _rounded(errors: StepErrors) -> dict[str, Any]:
    return {
        key: value if isinstance(value, int) else float(f"{value:.4g}")
        for key, value in asdict(errors).items()
    }


def report(calibration: Calibration, trained: StepErrors, held: StepErrors, shape: ModelShape) -> Table:
    """What was found, and how wrong it is."""
    table = Table(title=f"{calibration.name}: {shape.name}", title_justify="left", show_header=False)
    for name in (*EFFICIENCIES, *OVERHEADS):
        value = getattr(calibration, name)
        if name in OVERHEADS:
            table.add_row(name, f"{value * 1e6:.1f} µs")
        elif name != "link_efficiency" or shape.tensor_parallel > 1:
            table.add_row(name, f"{value:.3f}" + ("  above 1: the peak is only nominal" if value > 1 else ""))
    told = calibration.origin["not_told"]
    table.add_row("not told by these steps", ", ".join(told) or "nothing")
    reach = ", ".join(
        f"{value:.0f} {name.replace('_', ' ')}" for name, value in calibration.origin["reach"].items()
    )
    table.add_row("fitted up to", reach)
    unit = "step" if held.window == 1 else f"{held.window} steps"
    for name, errors in (("fitted steps", trained), ("held-out steps", held)):
        table.add_row(
            f"error on {errors.steps} {name}",
            f"total time {errors.total:+.1%}, per {unit} median {errors.median:.1%}, p90 {errors.p90:.1%}",
        )
    return table


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="calibrate")
def main(config: DictConfig) -> None:
    with exit_on_bad_input():
        keys = typed()
        refuse_unknown(keys, CalibrateConfig)
        settings: CalibrateConfig = OmegaConf.to_object(config)
        refuse_idle(keys, idle_keys(settings))
        calibration, trained, held = calibrate(settings)
        path = Path(settings.out) if settings.out else FOLDER / f"{settings.name}.yaml"
        write_calibration(calibration, path)
    console = Console()
    console.print(report(calibration, trained, held, settings.model_shape))
    console.print(f"written   {path}", soft_wrap=True)


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    run_command(main)


if __name__ == "__main__":
    cli()
