"""What following, ordering and asking for cached conversations costs a step: CPU time of the scheduler's thread.

    python scripts/bench_kept.py [STRATEGY[+RETENTION] ...]      # default: preempt-evict with every rule, and kept-first

One trace of coding agents (`workload=sessions`) where 8 sessions fit is simulated under each in turn, round after round, so
that a busy machine hits all alike. Counted is vLLM's schedule(), and what happens as requests come and leave, in
microseconds a step; `more` is what comes on top of the first. The bar is 50 a step.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import thread_time_ns
from typing import Any

from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.retention import RULES
from ray_jobs.drive.plan import frozen
from ray_jobs.engines.sim import simulate
from ray_jobs.engines.sim.build import build_parts
from scripts.run_without_ray import compose_job

ROUNDS = 3
COUNTED = ("schedule", "add_request", "_free_request")
JOB = (
    "experiment=try", "engine=vllm_sim", "workload=sessions", "engine.num_blocks=2900", "engine.max_num_seqs=256",
    "workload.num_requests=null", "workload.warmup_requests=0", "workload.sessions.count=60", "workload.rate=0.5",
    "workload.sessions.think_scale=0.3",
)  # fmt: skip
BAR_US = 50.0


class Spent:
    """CPU nanoseconds in some methods of the scheduler that `make` makes."""

    def __init__(self, make: Any):
        self._make, self.ns, self._inside = make, 0, False

    def __call__(self, *args: Any, **more: Any) -> Any:
        scheduler = self._make(*args, **more)
        for name in COUNTED:
            setattr(scheduler, name, self._timed(getattr(scheduler, name)))
        return scheduler

    def _timed(self, method: Any) -> Any:
        def timed(*args: Any, **more: Any) -> Any:
            if self._inside:
                return method(*args, **more)
            self._inside, start = True, thread_time_ns()
            try:
                return method(*args, **more)
            finally:
                self.ns += thread_time_ns() - start
                self._inside = False

        return timed


def main() -> None:
    others = [f"preempt-evict+{cls.name}" for cls in RULES if cls.name not in ("lru", "ttl_given")]
    names = sys.argv[1:] or ["preempt-evict+lru", *others, "kept-first+lru", "kept-first"]
    job = compose_job([*JOB, "engine.python=null"])
    os.environ.update(job.engine.env)
    trace = frozen(job)
    per_step: dict[str, list[float]] = {name: [] for name in names}
    made = simulate.make_scheduler
    with tempfile.TemporaryDirectory() as folder:
        parts = build_parts(job.engine, Path(folder))
        for number in range(ROUNDS):
            for name in names:
                strategy, _, retention = name.partition("+")
                settings = AdapterSettings(
                    strategy, retention=retention or None, client_facts=True, steps_path="in memory",
                    events_path=f"{folder}/{name}-{number}.jsonl",
                )  # fmt: skip
                spent = simulate.make_scheduler = Spent(made)
                outcome = simulate.simulate(parts, job.engine.sim, trace, settings)
                per_step[name].append(spent.ns / 1e3 / outcome.measured["steps"])
    first = statistics.median(per_step[names[0]])
    print(f"{len(trace.requests)} requests, {ROUNDS} rounds; µs a step")
    missed = []
    for name in names:
        own = statistics.median(per_step[name])
        more = statistics.median(a - b for a, b in zip(per_step[name], per_step[names[0]], strict=True))
        print(f"{name:30} {own:7.1f}  more {more:6.1f}  ({own / first:.2f}x)", flush=True)
        if more > BAR_US:
            missed.append(f"{name}: {more:.0f} µs more a step, bar {BAR_US:.0f}")
    if missed:
        sys.exit("\n".join(["bar missed:", *missed]))


if __name__ == "__main__":
    main()
