"""What a strategy adds to vLLM's schedule(): `python scripts/bench_schedule.py [--strategy backfill,bidkv2] [--quick]`.

vLLM's own scheduler and the strategies' get the same requests and step in turn, in one process, so that a busy machine
slows all of them alike. No model runs. Times are the thread's CPU time of schedule(), in µs; a number is the median
over the rounds of that round's mean, p95 or p99, and so is a ratio. `schedule_cases.py` has the settings. Ends
with 1 if a mean is above 1.2 times stock's or a p99 above 1.5 times. `--case TEXT …` keeps the settings whose names have one of them.
With `--fit` it measures schedule() and update_from_output() together with what was counted, and prints what the
simulator charges for them, as a file for conf/scheduling/.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import numpy as np  # noqa: E402
import vllm  # noqa: E402
import yaml  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from schedule_cases import BLOCK, CASES, Case, Load, Machine  # noqa: E402

import ray_jobs.run  # noqa: E402, F401 (registers the configuration's schema)
from ray_jobs.engines.shared.base import host_environment  # noqa: E402
from ray_jobs.engines.sim.build import SchedulerParts, build_parts  # noqa: E402
from ray_jobs.engines.sim.scheduling import Counts  # noqa: E402
from ray_jobs.engines.sim.scheduling_fit import cost_errors, fit_cost  # noqa: E402
from tracking.cli import CONF  # noqa: E402

BARS = {"mean": 1.2, "p99": 1.5}  # times stock's
STOCK = "stock"
BLOCKED_STEPS = (
    40  # a round: as those that run get on, less growth is expected of them, and the first one fits
)
MIN_STEPS = 50  # of a setting, for the fit
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
    if case.free:  # as long as its running requests find blocks that were taken away
        warm, steps = 10, min(steps, BLOCKED_STEPS)
    else:
        warm = 300  # until the load is in balance
    gc.collect()
    gc.freeze()
    gc.disable()
    for number in range(warm + rounds * steps):
        if number == warm:
            end = monotonic() + seconds
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


def fit(cases: list[Case], parts: SchedulerParts, args: argparse.Namespace, steps: int) -> None:
    """Prints a file for conf/scheduling/, and on stderr how far it is off in each setting."""
    counts: list[Counts] = []
    seconds: list[float] = []
    spans: list[tuple[str, slice]] = []
    for case in cases:
        load = Load(case, parts)
        for name in ("stock", *args.strategy.split(",")):
            machine = Machine(case, parts, load, name, not args.sync, counting=True)
            machine.fill()
            start, end = len(counts), monotonic() + args.seconds
            for number in range(-30 if case.free else -200, steps):
                spent = sum(machine.step()) / 1e9
                counted = machine.scheduler.scheduling_counts(machine.scheduled)
                if number >= 0:
                    counts.append(counted)
                    seconds.append(spent)
                if number > MIN_STEPS and monotonic() > end:
                    break
            spans.append((f"{case.name}, {name}", slice(start, len(counts))))
            print(f"measured {len(counts) - start} steps of {spans[-1][0]}", file=sys.stderr, flush=True)
            machine.scheduler.shutdown()
    cost = fit_cost(counts, seconds)
    for name, span in spans:
        print(name, _rounded(cost_errors(cost, counts[span], seconds[span])), file=sys.stderr)
    machine = host_environment()
    origin = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "engine_version": vllm.__version__,
        "scheduler": "sync" if args.sync else "async",
        "cpu": machine["cpu"],
        "strategies": args.strategy.split(","),
        "errors": _rounded(cost_errors(cost, counts, seconds)),
    }
    values = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in asdict(cost).items()}
    print("# Written by scripts/bench_schedule.py --fit: CPU seconds; `scale` fits them to another CPU.")
    print(yaml.safe_dump(values | {"name": args.name, "origin": origin}, sort_keys=False, width=110), end="")


def _rounded(errors: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.3g}") if key != "steps" else value for key, value in errors.items()}


def quick(case: Case) -> Case:
    return replace(case, waiting=min(case.waiting, 5_000))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategy", default="backfill,bidkv2", help="names, separated by commas")
    parser.add_argument(
        "--case", nargs="+", default=[""], help="only settings whose name contains one of these"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="steps a round")
    parser.add_argument(
        "--seconds", type=float, default=120, help="at most so long for a setting, of real time"
    )
    parser.add_argument("--sync", action="store_true", help="without async scheduling")
    parser.add_argument("--quick", action="store_true", help="a third of the steps, at most 5,000 waiting")
    parser.add_argument("--fit", action="store_true", help="print what the simulator charges")
    parser.add_argument("--name", default="fitted", help="of the fit")
    args = parser.parse_args()
    cases = [case for case in CASES if any(text in case.name for text in args.case)]
    if not cases:
        parser.error(f"--case={args.case!r}: must be part of one of {', '.join(c.name for c in CASES)}")
    steps = args.steps // 3 if args.quick else args.steps
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        parts = build(Path(folder))
        cases = list(map(quick, cases)) if args.quick else cases
        if args.fit:
            return fit(cases, parts, args, steps)
        print(HEAD, flush=True)
        for case in cases:
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
