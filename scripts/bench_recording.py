"""What a recording adds to a step: `python scripts/bench_recording.py [--steps 300]`.

Two schedulers with the strategy stock, one of which records, get the same requests and step in turn in one process. No model
runs. The table has the engine thread's CPU time of schedule() and update_from_output() together, in µs a step: stock's mean,
and what the same step takes more with the recorder. The mean of that without its twentieths at both ends, over rounds with
its standard error, is held to 20 µs; the median and the plain mean, which others on the machine reach, stand beside it. The writer's
own thread is not in it; the last column has its CPU time, a step.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
from pathlib import Path
from time import clock_gettime, pthread_getcpuclockid

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import numpy as np  # noqa: E402
from bench_schedule import build, quick  # noqa: E402
from schedule_cases import CASES, Case, Load, Machine  # noqa: E402
from scipy.stats import trim_mean  # noqa: E402

BAR_US, TRIM = 20.0, 0.05
SETTINGS = ("no shared prefix", "caching off, 512 seats", "100k prompts", "5,000 waiting")
WARM = 200


def writer_s() -> float:
    """CPU seconds of the recording's thread so far."""
    return sum(
        clock_gettime(pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.name == "bidkv-recording" and thread.ident is not None
    )


def measure(case: Case, machines: list[Machine], rounds: int, steps: int) -> tuple[float, np.ndarray, float]:
    """Microseconds a step of the first; what the second takes more, by round and step; and of the writer's thread."""
    for machine in machines:
        machine.fill()
    for _ in range(WARM):
        for machine in machines:
            machine.step()
    gc.collect()
    gc.freeze()
    gc.disable()
    begun = writer_s()
    spent = np.empty((rounds * steps, 2))
    for number in range(rounds * steps):
        for place in (0, 1) if number % 2 else (1, 0):
            spent[number, place] = sum(machines[place].step()) / 1e3
    gc.enable()
    gc.unfreeze()
    more = (spent[:, 1] - spent[:, 0]).reshape(rounds, steps)
    return float(spent[:, 0].mean()), more, (writer_s() - begun) / rounds / steps * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", default=SETTINGS, help="names of settings, or parts of them")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=200, help="steps a round")
    args = parser.parse_args()
    cases = [quick(case) for case in CASES if any(text in case.name for text in args.case)]
    missed = []
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:  # nobody else's to write, as /tmp is
        folder = Path(name)
        parts = build(folder)
        print("| setting | running | stock | more | standard error | median | plain mean | writer's thread |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
        for case in cases:
            load = Load(case, parts)
            machines = [
                Machine(case, parts, load, "stock", True, **more)
                for more in ({}, {"record": str(folder / "r")})
            ]
            plain, more, writer = measure(case, machines, args.rounds, args.steps)
            running, kept = len(machines[0].scheduler.running), trim_mean(more, TRIM, axis=1)
            error = kept.std(ddof=1) / len(kept) ** 0.5
            print(
                f"| {case.name} | {running} | {plain:,.0f} | {kept.mean():.1f} | {error:.1f} | {np.median(more):.1f} | "
                f"{more.mean():.1f} | {writer:.1f} |",
                flush=True,
            )
            missed += [case.name] if kept.mean() > BAR_US else []
            for machine in machines:
                machine.scheduler.shutdown()
    if missed:
        sys.exit(f"more than {BAR_US:g} µs a step: {', '.join(missed)}")


if __name__ == "__main__":
    main()
