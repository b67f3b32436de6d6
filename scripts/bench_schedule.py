"""What a strategy adds to vLLM's schedule(): `python scripts/bench_schedule.py [--strategy backfill,bidkv2] [--quick]`.

vLLM's own scheduler and the strategies' get the same requests and step in turn, in one process, so that a busy machine
slows all of them alike. No model runs. Times are the thread's CPU time of schedule(), in µs; a number is the median
over the rounds of that round's mean, p95 or p99, and so is a ratio. `schedule_cases.py` has the settings. Ends
with 1 if a mean is above 1.2 times stock's or a p99 above 1.5 times. `--case TEXT` keeps the settings whose name has it.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import monotonic

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import numpy as np  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from schedule_cases import BLOCK, CASES, Case, Load, Machine  # noqa: E402

import ray_jobs.run  # noqa: E402, F401 (registers the configuration's schema)
from ray_jobs.engines.sim.build import SchedulerParts, build_parts  # noqa: E402
from tracking.cli import CONF  # noqa: E402

BARS = {"mean": 1.2, "p99": 1.5}  # times stock's
STOCK = "stock"
HEAD = (
    "| setting | strategy | running (stock) | mean | p95 | p99 | stock: mean | p95 | p99 | mean ratio | p99 ratio |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def build(folder: Path) -> SchedulerParts:
    overrides = ["engine=vllm_sim", "engine.max_model_len=131072", f"engine.block_size={BLOCK}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = OmegaConf.to_object(compose("config", overrides))
    return build_parts(job.engine, folder)


def measure(
    case: Case, machines: dict[str, Machine], rounds: int, steps: int, seconds: float
) -> dict[str, np.ndarray]:
    """Microseconds of schedule(), by machine: an array (rounds, steps), with fewer steps after `seconds`."""
    for machine in machines.values():
        machine.fill()
    times: dict[str, list[float]] = {name: [] for name in machines}
    warm = 30 if case.free else 300  # a live load needs its time to be in balance
    gc.collect()
    gc.freeze()
    gc.disable()
    end = monotonic() + seconds
    for number in range(warm + rounds * steps):
        if number >= warm + rounds and monotonic() > end:
            break
        for name, machine in machines.items():
            spent, _ = machine.step()
            if number >= warm:
                times[name].append(spent / 1e3)
    gc.enable()
    gc.unfreeze()
    done = len(times[STOCK]) // rounds
    return {name: np.array(one[: rounds * done]).reshape(rounds, done) for name, one in times.items()}


def summary(times: np.ndarray) -> dict[str, np.ndarray]:
    """Of each round."""
    p95, p99 = np.percentile(times, [95, 99], axis=1)
    return {"mean": times.mean(axis=1), "p95": p95, "p99": p99}


def report(case: Case, machines: dict[str, Machine], times: dict[str, np.ndarray]) -> list[str]:
    """Prints a row a strategy; the bars that are missed, in words."""
    missed = []
    stock, seated = summary(times[STOCK]), len(machines[STOCK].scheduler.running)
    for name, machine in machines.items():
        if name == STOCK:
            continue
        ours = summary(times[name])
        ratios = {key: median(ours[key] / stock[key]) for key in BARS}
        numbers = [f"{median(one[key]):,.0f}" for one in (ours, stock) for key in ("mean", "p95", "p99")]
        row = [case.name, name, f"{len(machine.scheduler.running)} ({seated})", *numbers]
        print("| " + " | ".join([*row, *(f"{ratio:.2f}" for ratio in ratios.values())]) + " |", flush=True)
        missed += [
            f"{case.name}, {name}: {key} {ratio:.2f}, bar {BARS[key]}"
            for key, ratio in ratios.items()
            if ratio > BARS[key]
        ]
    return missed


def quick(case: Case) -> Case:
    return replace(case, waiting=min(case.waiting, 5_000))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategy", default="backfill,bidkv2", help="names, separated by commas")
    parser.add_argument("--case", default="", help="only settings whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="steps a round")
    parser.add_argument(
        "--seconds", type=float, default=120, help="at most so long for a setting, of real time"
    )
    parser.add_argument("--sync", action="store_true", help="without async scheduling")
    parser.add_argument("--quick", action="store_true", help="a third of the steps, at most 5,000 waiting")
    args = parser.parse_args()
    cases = [case for case in CASES if args.case in case.name]
    if not cases:
        parser.error(f"--case={args.case!r}: must be part of one of {', '.join(c.name for c in CASES)}")
    steps = args.steps // 3 if args.quick else args.steps
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        parts = build(Path(folder))
        print(HEAD, flush=True)
        for case in map(quick, cases) if args.quick else cases:
            load = Load(case, parts)
            names = [None, *args.strategy.split(",")]
            machines = {name or STOCK: Machine(case, parts, load, name, not args.sync) for name in names}
            missed += report(case, machines, measure(case, machines, args.rounds, steps, args.seconds))
            for machine in machines.values():
                machine.scheduler.shutdown()
    if missed:
        sys.exit("\n".join(["bars missed:", *missed]))


if __name__ == "__main__":
    main()
