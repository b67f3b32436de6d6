"""What a recording adds to a step: `python scripts/bench_recording.py [--steps 300]`.

Two schedulers with the strategy stock, one of which records, get the same requests and step in turn in one process. No model
runs. The table has the engine thread's CPU time of schedule() and update_from_output() together, in µs a step: the mean of
each, and the mean of what the second takes more, with its standard error over rounds. Ends with 1 if that is more than 20 µs in
any setting. The writer's own thread is not in it; the last column has all CPU time of the process for that thread, a step.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
from pathlib import Path
from statistics import mean, stdev
from time import clock_gettime, pthread_getcpuclockid

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from bench_schedule import build, quick  # noqa: E402
from schedule_cases import CASES, Case, Load, Machine  # noqa: E402

BAR_US = 20.0
SETTINGS = ("no shared prefix", "caching off, 512 seats", "100k prompts", "5,000 waiting")
WARM = 200


def writer_s() -> float:
    """CPU seconds of the recording's thread so far."""
    return sum(
        clock_gettime(pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.name == "bidkv-recording" and thread.ident is not None
    )


def measure(
    case: Case, machines: list[Machine], rounds: int, steps: int
) -> tuple[list[float], list[float], float]:
    """Microseconds a step of the first, what the second takes more, both by round; and of the writer's thread."""
    for machine in machines:
        machine.fill()
    plain, more = [], []
    for _ in range(WARM):
        for machine in machines:
            machine.step()
    gc.collect()
    gc.freeze()
    gc.disable()
    begun = writer_s()
    for number in range(rounds):
        spent = [0, 0]
        for step in range(steps):
            for place in (0, 1) if (number + step) % 2 else (1, 0):
                spent[place] += sum(machines[place].step())
        plain.append(spent[0] / steps / 1e3)
        more.append((spent[1] - spent[0]) / steps / 1e3)
    gc.enable()
    gc.unfreeze()
    return plain, more, (writer_s() - begun) / rounds / steps * 1e6


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
        print(
            "| setting | running | stock | it records: more | standard error | writer's thread |\n|---|--:|--:|--:|--:|--:|"
        )
        for case in cases:
            load = Load(case, parts)
            machines = [
                Machine(case, parts, load, "stock", True, **more)
                for more in ({}, {"record": str(folder / "r")})
            ]
            plain, more, writer = measure(case, machines, args.rounds, args.steps)
            running, error = len(machines[0].scheduler.running), stdev(more) / len(more) ** 0.5
            print(
                f"| {case.name} | {running} | {mean(plain):,.0f} | {mean(more):.1f} | {error:.1f} | {writer:.1f} |",
                flush=True,
            )
            missed += [case.name] if mean(more) > BAR_US else []
            for machine in machines:
                machine.scheduler.shutdown()
    if missed:
        sys.exit(f"more than {BAR_US:g} µs a step: {', '.join(missed)}")


if __name__ == "__main__":
    main()
