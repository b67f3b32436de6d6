"""What a strategy adds to a round of SGLang's scheduler:

$ .venv-sglang/bin/python scripts/bench_sglang_schedule.py --strategy backfill,bidkv2

SGLang's own scheduler, radix tree and event loop; no model runs. The thread's CPU time, in µs: `schedule` is
get_next_batch_to_run(), `round` that, the launch and the processing of the result together. Stock and the strategies run in
turn `--repeats` times in one process, so that a busy machine slows all alike; a number is the median over the repeats of a
run's mean or p99. Ends with 1 if a mean of `round` is above 1.2 times stock's, or a p99 above 1.5 times.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import mean, median, quantiles
from time import thread_time_ns
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "adapters" / "sglang"
SHIM = ROOT / "ray_jobs" / "engines" / "sim" / "sglang" / "shim"
sys.path[:0] = [str(TESTS), str(SHIM), str(ROOT)]
CONTEXT = 131_072
BARS = {"mean": 1.2, "p99": 1.5}


@dataclass(frozen=True)
class Case:
    """`prompt(number, draw)` gives the lengths of a request's shared and own prompt, and of its output."""

    name: str
    tokens: int
    seats: int
    waiting: int
    prompt: Callable[[int, Random], tuple[int, int, int]]


CASES = (
    Case(
        "256 run, 5,000 wait for a seat", 400_000, 256, 5000, lambda i, draw: (0, draw.randint(50, 400), 300)
    ),
    Case("5,000 wait for memory", 90_000, 256, 5000, lambda i, draw: (0, draw.randint(50, 600), 300)),
    Case(
        "5,000 wait for memory, 8k shared",
        140_000,
        256,
        5000,
        lambda i, draw: (8000, draw.randint(50, 900), 300),
    ),
    Case(
        "a first one of 100k, 64 of 100k behind it",
        250_000,
        64,
        64,
        lambda i, draw: (0, 100_000 if i else 200_000, 400),
    ),
    Case("nobody waits", 400_000, 256, 200, lambda i, draw: (0, draw.randint(50, 400), 300)),
)


def run(
    case: Case, strategy: str | None, model: Path, warm: int, rounds: int, seed: int
) -> dict[str, list[float]]:
    """Microseconds of each round after `warm`."""
    from hooks import Hooks
    from real_scheduler import RealScheduler

    from bidkv.adapters.shared.settings import AdapterSettings

    spent: dict[str, list[float]] = {"schedule": [], "round": [], "running": []}

    class Timed(RealScheduler):
        def get_next_batch_to_run(self, *args: Any, **kwargs: Any) -> Any:
            start = thread_time_ns()
            plan = super().get_next_batch_to_run(*args, **kwargs)
            self.ns = thread_time_ns() - start
            spent["schedule"].append(self.ns / 1000)
            spent["round"].append(self.ns / 1000)
            spent["running"].append(len(plan.running_batch.reqs))
            return plan

        def run_batch(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
            start, self.model_ns = thread_time_ns(), 0
            result = super().run_batch(batch, *args, **kwargs)
            spent["round"][-1] += (thread_time_ns() - start - self.model_ns) / 1000
            return result

        def _forward(self, batch: Any, **kwargs: Any) -> Any:
            start = thread_time_ns()
            result = super()._forward(batch, **kwargs)
            self.model_ns = thread_time_ns() - start
            return result

        def process_batch_result(self, batch: Any, result: Any) -> Any:
            start = thread_time_ns()
            returned = super().process_batch_result(batch, result)
            spent["round"][-1] += (thread_time_ns() - start) / 1000
            return returned

    hooks = Hooks()
    scheduler = Timed(
        model,
        max_total_tokens=case.tokens,
        max_running_requests=case.seats,
        context_length=CONTEXT,
        page_size=1,
        chunked_prefill_size=8192,
    )
    try:
        if strategy is not None:
            hooks.install(scheduler, AdapterSettings(strategy))
        draw = Random(seed)
        shared = [draw.randrange(3, 512) for _ in range(8000)]
        number = 0

        def arrive(count: int) -> list[Any]:
            nonlocal number
            requests = []
            for _ in range(count):
                prefix, own, output = case.prompt(number, draw)
                prompt = [*shared[:prefix], *draw.choices(range(3, 512), k=own)]
                requests.append(scheduler.request(f"r{number}", prompt, draw.randint(output // 2, output)))
                number += 1
            return requests

        def before(round_number: int) -> Sequence[Any]:
            if round_number == warm:
                gc.collect()
                gc.disable()
            if round_number >= warm + rounds:
                scheduler.gracefully_exit = True
            busy = len(scheduler.waiting_queue) < case.waiting
            return (
                arrive(case.waiting)
                if round_number == 1
                else arrive(2)
                if busy and case.waiting > 200
                else ()
            )

        scheduler.run(before, lambda: True)
    finally:
        gc.enable()
        hooks.remove()
    return {name: values[warm:] for name, values in spent.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategy", default="backfill", help="names, separated by commas")
    parser.add_argument("--case", default="", help="keep the settings whose names have this text")
    parser.add_argument("--warm", type=int, default=150, help="rounds before those that count")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    from conftest import CPU_ENVIRONMENT

    os.environ.update(CPU_ENVIRONMENT)
    from ray_jobs.engines.shared.tiny_model import make_tiny_llama

    over = False
    names = [None, *args.strategy.split(",")]
    print(
        "| setting | strategy | running | schedule: mean | p99 | round: mean | p99 | round to stock's: mean | p99 |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_llama(Path(folder), seed=3, vocab_size=512, max_len=CONTEXT)
        for case in (case for case in CASES if args.case in case.name):
            runs: dict[str | None, list[dict[str, list[float]]]] = {name: [] for name in names}
            for repeat in range(args.repeats):
                for name in names:
                    runs[name].append(run(case, name, model, args.warm, args.rounds, repeat))
            for name in names:
                row = [
                    median(map(measure, values_of(runs[name], part)))
                    for part in ("schedule", "round")
                    for measure in (mean, p99)
                ]
                ratios = [
                    median(map(measure, values_of(runs[name], "round")))
                    / median(map(measure, values_of(runs[None], "round")))
                    for measure in (mean, p99)
                ]
                over |= ratios[0] > BARS["mean"] or ratios[1] > BARS["p99"]
                row.insert(0, median(map(mean, values_of(runs[name], "running"))))
                cells = [*(f"{value:,.0f}" for value in row), *(f"{ratio:.2f}" for ratio in ratios)]
                print(f"| {case.name} | {name or 'stock'} | {' | '.join(cells)} |", flush=True)
    return 1 if over else 0


def values_of(runs: list[dict[str, list[float]]], part: str) -> list[list[float]]:
    return [run[part] for run in runs]


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


if __name__ == "__main__":
    sys.exit(main())
