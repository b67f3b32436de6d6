"""How well the calibrated simulator predicts a real engine on loads it was not fitted to.

    python scripts/validate_sim.py [--requests 80] [--rounds 3] [--json FILE] [--keep FOLDER] [OVERRIDE ...]

Runs the tiny model on this machine's CPU: loads to fit and loads to check take turns, several rounds
of each, so that a machine that drifts hits both alike. Then it fits the step-time model to the first kind,
simulates the second kind, and prints throughput and mean E2E, measured and predicted, each the mean
over the rounds (the bars: within 5 % and 10 %).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean

import ray
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import frozen
from ray_jobs.drive.pool import EnginePool
from ray_jobs.engines.config import LIMITS
from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.fit import StepErrors, fit
from tracking.cli import CONF
from tracking.metrics.catalogue import compute_metrics
from tracking.result import RunResult

Key = tuple[str, int]  # load, round
METRICS = {"throughput_tok_s": 0.05, "e2e_mean_s": 0.10}
FIT = {
    "open loop 8/s": ["workload=mixed", "workload.rate=8"],
    "closed loop 12": ["workload=closed_loop", "workload.arrivals.users=12"],
    "open loop 20/s": ["workload=mixed", "workload.rate=20"],
}
CHECK = {
    "open loop 12/s": ["workload=mixed", "workload.rate=12"],
    "closed loop 24": ["workload=closed_loop", "workload.arrivals.users=24", "strategy=bidkv"],
    "long prompts 3/s": ["workload=long_context", "workload.rate=3", "workload.length_scale=0.4"],
}
SIMULATED = [
    "engine=vllm_sim", "model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu",
    "engine.sim.async_scheduling=false",
]  # fmt: skip


@dataclass
class Prediction:
    """One metric of one load."""

    load: str
    metric: str
    measured: float
    predicted: float
    bar: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=80, help="requests a load and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the predictions here")
    parser.add_argument("--keep", type=Path, help="save what the real engine recorded in this folder")
    parser.add_argument("overrides", nargs="*", help="of the real engine's configuration")
    args = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        predictions, errors = asyncio.run(validate(args))
    finally:
        ray.shutdown()
    show(predictions, errors)
    if args.json:
        args.json.write_text(json.dumps([asdict(p) | {"error": p.error} for p in predictions], indent=1))


async def validate(args: argparse.Namespace) -> tuple[list[Prediction], StepErrors]:
    sizes = [f"workload.num_requests={args.requests}", f"workload.warmup_requests={args.requests // 15}"]
    jobs: dict[Key, BenchConfig] = {}
    for number in range(args.rounds):
        for pair in zip(FIT, CHECK, strict=True):
            for name in pair:
                what = (FIT | CHECK)[name]
                overrides = ["engine=vllm_cpu", *what, *sizes, f"seed={len(jobs)}", *args.overrides]
                jobs[name, number] = job(overrides)
    real = await run_all(jobs)
    if args.keep:
        for (name, number), result in real.items():
            result.save(args.keep / f"{name.replace('/', ' per ')}, {number}")
    start = job(SIMULATED).engine.sim
    fitted, _, errors = fit(
        [result.steps for (name, _), result in real.items() if name in FIT],
        start.model_shape, start.hardware, Calibration(), hold_out=0.1,
    )  # fmt: skip
    simulated = await run_all(
        {key: simulated_job(what, fitted) for key, what in jobs.items() if key[0] in CHECK}
    )
    predictions = []
    for name in CHECK:
        rounds = [(name, number) for number in range(args.rounds)]
        for metric, bar in METRICS.items():
            measured, predicted = (
                mean(compute_metrics(results[key], jobs[key].slo)[metric] for key in rounds)
                for results in (real, simulated)
            )
            predictions.append(Prediction(name, metric, measured, predicted, bar))
    return predictions, errors


async def run_all(jobs: dict[Key, BenchConfig]) -> dict[Key, RunResult]:
    """All on one engine, in this order."""
    engine = await EnginePool().start(next(iter(jobs.values())).engine, None, print)
    try:
        return {
            key: await (await engine.run(ray.put(frozen(what)), what, f"run-{i}"))
            for i, (key, what) in enumerate(jobs.items())
        }
    finally:
        await engine.stop()


def simulated_job(real: BenchConfig, fitted: Calibration) -> BenchConfig:
    """The same job on a simulated engine with the same limits."""
    template = job(SIMULATED).engine
    limits = {key: getattr(real.engine, key) for key in LIMITS}
    sim = replace(template.sim, calibration=replace(fitted, name="this machine", fitted=True))
    return replace(real, engine=replace(template, **limits, vocab_size=real.engine.vocab_size, sim=sim))


def job(overrides: list[str]) -> BenchConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", ["run.timeout_s=300", *overrides]))


def show(predictions: list[Prediction], errors: StepErrors) -> None:
    table = Table("load not fitted", "metric", "measured", "predicted", "error", "bar")
    for p in predictions:
        verdict = "met" if abs(p.error) <= p.bar else "missed"
        table.add_row(
            p.load,
            p.metric,
            f"{p.measured:.4g}",
            f"{p.predicted:.4g}",
            f"{p.error:+.1%}",
            f"{p.bar:.0%} {verdict}",
        )
    console = Console(width=110)
    console.print(table)
    console.print(
        f"steps held out of the fitted loads: total time {errors.total:+.1%}, per step median {errors.median:.1%}"
    )


if __name__ == "__main__":
    main()
