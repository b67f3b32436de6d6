"""What a recording adds to a step: `python scripts/bench_recording.py [--couples 6] [--same]`.

Two schedulers with the strategy stock, one of which records, get the same requests and step in turn in one process. No model
runs. What is measured is the engine thread's CPU time of schedule() and update_from_output() together, in µs a step, and of
that how much longer the same step takes with the recorder: the mean without the twentieths at both ends.

Of two equal schedulers the one that is made and filled last is quicker by as much as 100 µs. So each pair is made anew, in
every second one the recorder first; a couple of such pairs has one value, their mean, and the interval (95 %, Student's) is
over couples. `--same` has pairs of which none records, which is what chance does. The mean is held to 20 µs. The writer's
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
from schedule_cases import CASES, Load, Machine  # noqa: E402
from scipy.stats import t as student  # noqa: E402
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


def measure(made: list[Machine], plain: int, steps: int) -> tuple[float, float, float]:
    """Microseconds a step of the one at `plain`; what the other takes more; and of the writer's thread."""
    for machine in made:
        machine.fill()
    for _ in range(WARM):
        for machine in made:
            machine.step()
    gc.collect()
    gc.freeze()
    gc.disable()
    begun = writer_s()
    spent = np.empty((steps, 2))
    for number in range(steps):
        for place in (0, 1) if number % 2 else (1, 0):
            spent[number, place] = sum(made[place].step()) / 1e3
    gc.enable()
    gc.unfreeze()
    more = trim_mean(spent[:, 1 - plain] - spent[:, plain], TRIM)
    return float(spent[:, plain].mean()), float(more), (writer_s() - begun) / steps * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", default=SETTINGS, help="names of settings")
    parser.add_argument("--couples", type=int, default=6)
    parser.add_argument("--steps", type=int, default=300, help="steps a pair")
    parser.add_argument("--same", action="store_true", help="none records")
    args = parser.parse_args()
    unknown = sorted(set(args.case) - {case.name for case in CASES})
    if unknown:
        parser.error(f"--case={unknown[0]!r}: must be one of {', '.join(case.name for case in CASES)}")
    cases = [quick(case) for case in CASES if case.name in args.case]
    missed = []
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:  # nobody else's to write, as /tmp is
        folder = Path(name)
        parts = build(folder)
        print("| setting | running | stock | more | from | to | couples | writer's thread |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
        for case in cases:
            load, found = Load(case, parts), []
            settings = [{}, {} if args.same else {"record": str(folder / "r")}]
            for pair in range(2 * args.couples):
                plain = pair % 2
                made = [
                    Machine(case, parts, load, "stock", True, **more)
                    for more in (settings[::-1] if plain else settings)
                ]
                found.append(measure(made, plain, args.steps))
                running = len(made[plain].scheduler.running)
                for machine in made:
                    machine.scheduler.shutdown()
            stock, more, writer = np.array(found).reshape(-1, 2, 3).mean(axis=1).T
            half = student.ppf(0.975, len(more) - 1) * more.std(ddof=1) / len(more) ** 0.5
            print(
                f"| {case.name} | {running} | {stock.mean():,.0f} | {more.mean():.1f} | {more.mean() - half:.1f} | "
                f"{more.mean() + half:.1f} | {len(more)} | {writer.mean():.1f} |",
                flush=True,
            )
            missed += [case.name] if more.mean() > BAR_US else []
    print(f"load {os.getloadavg()[0]:.1f}")
    if missed:
        sys.exit(f"more than {BAR_US:g} µs a step: {', '.join(missed)}")


if __name__ == "__main__":
    main()
