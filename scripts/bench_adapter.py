"""What the adapter takes inside vLLM's scheduler: `python scripts/bench_adapter.py [RUNNING [TOKENS [STEPS]]]`.

Steps vLLM's own scheduler and the adapter's, a chunk of steps each in turn, with RUNNING requests (default 256) of
about TOKENS tokens (default 1,024) in blocks of 16, and memory for all but a little, so that decoding preempts. No model
runs. Prints CPU microseconds a step (schedule and update_from_output, medians over the chunks) and, of each
preemption, the whole hook: states, choice, records, everything the adapter does in a step that vLLM does not.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections import deque
from pathlib import Path
from random import Random
from time import thread_time_ns
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


def main(running: int = 256, tokens: int = 1024, steps: int = 2000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = build(running, tokens, folder)
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler

        machines = {"(vLLM)": Machine(parts, AsyncScheduler, {}, running, tokens)}
        for strategy in STRATEGIES:
            settings = {"strategy": strategy, "admission": "fcfs"}
            settings |= {f"{kind}_path": str(folder / f"{strategy}.{kind}") for kind in ("events", "steps")}
            machines[strategy] = Machine(parts, create_scheduler, settings, running, tokens)
        for machine in machines.values():
            while len(machine.scheduler.running) < running - running // 16:
                machine.step()
        for _ in range(steps // CHUNK):
            for machine in machines.values():
                machine.chunk(CHUNK)
        table = Table(title=f"{running} running requests of about {tokens} tokens, {steps} steps, µs")
        for title in (
            "strategy",
            "a step",
            "than vLLM",
            "preemptions",
            "candidates",
            "select",
            "hook p50",
            "hook p99",
        ):
            table.add_column(title, justify="left" if title == "strategy" else "right")
        stock = machines["(vLLM)"].chunks
        missed = []
        for name, machine in machines.items():
            row = [name, f"{statistics.median(machine.chunks):.0f}"]
            if name != "(vLLM)":
                machine.scheduler.shutdown()
                more = statistics.median(m - s for m, s in zip(machine.chunks, stock, strict=True))
                found = [e for e in read_events(folder / f"{name}.events") if e["type"] == "preempt"]
                hook = np.array([e["hook_ns"] for e in found]) / 1e3
                select = np.array([e["select_ns"] for e in found]) / 1e3
                size = statistics.median(len(e["candidates"]) for e in found)
                row += [f"{more:+.0f}", str(len(found)), f"{size:.0f}", f"{np.median(select):.0f}"]
                row += [f"{np.median(hook):.0f}", f"{np.percentile(hook, 99):.0f}"]
                if running <= 256 and np.median(hook) > BAR_US:
                    missed.append(f"{name}: {np.median(hook):.0f} µs")
            table.add_row(*row)
        Console(width=110).print(table)
        if missed:
            sys.exit(f"bar of {BAR_US:g} µs missed: " + "; ".join(missed))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
