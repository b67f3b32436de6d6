"""What the adapter takes inside vLLM's scheduler: `python scripts/bench_adapter.py [RUNNING [TOKENS [STEPS]]]`.

Steps vLLM's own scheduler and the adapter's, a chunk of steps each in turn, with RUNNING requests (default 256) of
about TOKENS tokens (default 1,024) in blocks of 16, and memory for all but a little, so that decoding preempts. No model
runs. Prints CPU microseconds a step (schedule and update_from_output, medians over the chunks) and, of each
preemption, the whole hook: states, choice, records, everything the adapter does in a step that vLLM does not, but
writing the record, which waits until the step is over. "again" is the same choice made over and over: what is left of
the hook where nobody else's work is in the processor's caches.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections import deque
from pathlib import Path
from random import Random
from time import perf_counter_ns, thread_time_ns
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
import ray_jobs.run  # noqa: F401, E402 (registers the configuration's schema)
from bidkv.adapters.shared.events import read_events  # noqa: E402
from bidkv.adapters.vllm.scheduler import create_scheduler  # noqa: E402
from ray_jobs.engines.sim.build import SchedulerParts, build_parts, make_request, run_config  # noqa: E402
from ray_jobs.engines.sim.scheduler import NoGrammar  # noqa: E402
from tracking.cli import CONF  # noqa: E402

STRATEGIES = ("preempt-evict", "lcf", "cost-aware", "bidkv", "bidkv2")
CHUNK = 50  # steps of one scheduler before it is the next one's turn
BAR_US = 200.0  # the whole hook at 256 running requests, median


class Machine:
    """A scheduler that is kept full; the stand-in for the model answers every request that is due with one token."""

    def __init__(self, parts: SchedulerParts, make: Any, settings: dict[str, Any], running: int, tokens: int):
        self.parts, self.tokens, self.target = parts, tokens, running + running // 8
        self.scheduler = make(
            vllm_config=run_config(parts, settings), kv_cache_config=parts.kv_cache_config,
            structured_output_manager=NoGrammar(), block_size=parts.block_size,
            hash_block_size=parts.block_size, log_stats=False,
        )  # fmt: skip
        self.random, self.count = Random(1), 0
        self.in_flight: deque[tuple[Any, Any]] = deque()
        self.chunks: list[float] = []  # CPU µs a step

    def step(self) -> int:
        """CPU nanoseconds of the scheduler's part of a step."""
        from vllm.v1.outputs import ModelRunnerOutput

        while len(self.scheduler.requests) < self.target:
            self._add()
        start = thread_time_ns()
        output = self.scheduler.schedule()
        spent = thread_time_ns() - start
        names = list(output.num_scheduled_tokens)
        requests = [self.scheduler.requests[name] for name in names]
        due = [[7] if r.num_computed_tokens >= r.num_tokens else [] for r in requests]
        index = {name: place for place, name in enumerate(names)}
        self.in_flight.append((output, ModelRunnerOutput(names, index, due)))
        if len(self.in_flight) == 2:
            done = self.in_flight.popleft()
            start = thread_time_ns()
            self.scheduler.update_from_output(*done)
            spent += thread_time_ns() - start
        return spent

    def chunk(self, steps: int) -> None:
        self.chunks.append(sum(self.step() for _ in range(steps)) / steps / 1e3)

    def choose_us(self) -> float:
        """A choice that nobody acts upon."""
        scheduler, start = self.scheduler, perf_counter_ns()
        scheduler._bidkv_choose(scheduler.running[len(scheduler.running) // 2], 1)
        spent = perf_counter_ns() - start
        scheduler._bidkv_withdraw()
        return spent / 1e3

    def _add(self) -> None:
        length = self.random.randint(self.tokens // 2, self.tokens)
        prompt = [self.random.randrange(3, 30_000) for _ in range(length)]
        if self.count % 2:
            prompt[: self.tokens // 4] = range(3, 3 + self.tokens // 4)  # a system prompt
        self.scheduler.add_request(
            make_request(
                self.parts,
                f"r{self.count}",
                prompt,
                max_tokens=self.random.randint(self.tokens // 4, self.tokens),
                arrival_time=float(self.count),
                priority=0,
                declared={"max_tokens": self.tokens},
            )  # fmt: skip
        )
        self.count += 1


def build(running: int, tokens: int, folder: Path) -> SchedulerParts:
    overrides = [
        "engine=vllm_sim", f"engine.max_num_seqs={running}", f"engine.num_blocks={running * tokens // 20}",
        f"engine.max_model_len={4 * tokens}",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = OmegaConf.to_object(compose("config", overrides))
    return build_parts(job.engine, folder)


def main(running: int = 256, tokens: int = 1024, steps: int = 1000) -> None:
    """Exits with 1 if a hook's median at up to 256 running requests is above the bar."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = build(running, tokens, folder)
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler

        table = Table(title=f"{running} running requests of about {tokens} tokens, {steps} steps, µs")
        columns = (
            "a step of vLLM",
            "with the adapter",
            "preemptions",
            "select",
            "hook p50",
            "hook p90",
            "again",
        )
        table.add_column("strategy")
        for title in columns:
            table.add_column(title, justify="right")
        missed = []
        stock = filled(Machine(parts, AsyncScheduler, {}, running, tokens))
        for strategy in STRATEGIES:
            settings = {"strategy": strategy, "admission": "fcfs"}
            settings |= {f"{kind}_path": str(folder / f"{strategy}.{kind}") for kind in ("events", "steps")}
            ours = filled(Machine(parts, create_scheduler, settings, running, tokens))
            stock.chunks = []
            for _ in range(steps // CHUNK):
                stock.chunk(CHUNK)
                ours.chunk(CHUNK)
            again = statistics.median(ours.choose_us() for _ in range(200))
            ours.scheduler.shutdown()
            found = [e for e in read_events(folder / f"{strategy}.events") if e["type"] == "preempt"]
            hook, select = (
                np.array([e[key] for e in found] or [np.nan]) / 1e3 for key in ("hook_ns", "select_ns")
            )
            more = statistics.median(a - b for a, b in zip(ours.chunks, stock.chunks, strict=True))
            table.add_row(
                strategy, f"{statistics.median(stock.chunks):.0f}", f"{more:+.0f}", str(len(found)),
                f"{np.median(select):.0f}", f"{np.median(hook):.0f}", f"{np.percentile(hook, 90):.0f}",
                f"{again:.0f}",
            )  # fmt: skip
            if running <= 256 and np.median(hook) > BAR_US:
                missed.append(f"{strategy}: {np.median(hook):.0f} µs")
        Console(width=110).print(table)
        if missed:
            sys.exit(f"bar of {BAR_US:g} µs missed: " + "; ".join(missed))


def filled(machine: Machine) -> Machine:
    """Steps a machine until memory is what keeps requests waiting."""
    seats = machine.scheduler.max_num_running_reqs
    while len(machine.scheduler.running) < seats - seats // 16:
        machine.step()
    return machine


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
