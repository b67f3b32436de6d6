"""Microseconds a victim decision costs, for every policy and several numbers of candidates; and a server's live metrics.

    python scripts/bench_selector.py [REPEATS]

Prints the median over REPEATS (default 30) batches of decisions on random request states.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from random import Random

from rich.console import Console
from rich.table import Table

from bidkv import RequestState, create_default_registry
from bidkv.adapters.shared.meter import Meter

CANDIDATES = (8, 32, 64, 128, 256)
BATCH_S = 0.002  # a batch lasts at least this long, so that the clock's own cost vanishes
BARS_US = {("bidkv", 32): 20.0, ("bidkv", 256): 150.0}


def random_states(count: int, random: Random) -> list[RequestState]:
    """`count` running requests with every field a policy may read."""
    states = []
    for index in range(count):
        prompt, declared = random.randint(16, 4096), random.randint(32, 1024)
        output = random.randint(0, declared - 1)
        states.append(
            RequestState(
                request_id=f"r{index}",
                computed_tokens=prompt + output,
                prompt_tokens=prompt,
                output_tokens=output,
                max_tokens=declared,
                private_tokens=prompt,
                private_blocks=(prompt + output) // 16 + 1,
                total_blocks=(prompt + output) // 16 + 1,
                arrival=random.random() * 100,
                priority=random.randint(0, 3),
                deadline=random.random() * 200,
                preemptions=random.randint(0, 4),
                true_output_tokens=declared,
            )
        )
    return states


def call_us(call: Callable[[], object], repeats: int) -> float:
    """Median microseconds of one call over `repeats` batches."""
    started, batch = time.perf_counter(), 0
    while time.perf_counter() - started < BATCH_S:
        call()
        batch += 1
    times = []
    for _ in range(repeats):
        started = time.perf_counter_ns()
        for _ in range(batch):
            call()
        times.append((time.perf_counter_ns() - started) / batch / 1e3)
    return statistics.median(times)


def meter_text(repeats: int) -> str:
    """What the live metrics of a server take."""
    event = {"source": "strategy", "tokens_freed": 900, "select_ns": 4_000, "hook_ns": 30_000}
    record = {"preemptions": 2, "recomputed": 300}
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(folder, {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "engine": "0"})
        victim = call_us(lambda: meter.preempted(event), repeats)
        request = call_us(lambda: meter.left(record), repeats)
    return f"live metrics: {victim:.1f} µs a preemption, {request:.1f} µs a request that leaves"


def main(repeats: int) -> None:
    registry = create_default_registry()
    states = {count: random_states(count, Random(count)) for count in CANDIDATES}
    table = Table(title=f"µs a decision by number of candidates, median of {repeats} batches")
    table.add_column("victim policy", no_wrap=True)
    for count in CANDIDATES:
        table.add_column(str(count), justify="right")
    missed = []
    for name in registry.list_victims():
        policy = registry.pair("fcfs", name).victim
        row = {count: call_us(partial(policy.select, states[count], 0.0), repeats) for count in CANDIDATES}
        table.add_row(name, *(f"{row[count]:.1f}" for count in CANDIDATES))
        missed += [
            f"{name} at {count}: {row[count]:.1f} µs, bar {bar} µs"
            for (bound, count), bar in BARS_US.items()
            if bound == name and row[count] > bar
        ]
    Console().print(table)
    print(meter_text(repeats))
    if missed:
        sys.exit("bar missed: " + "; ".join(missed))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
