"""What the adapter costs in throughput, on a real engine: `python scripts/bench_throughput.py [--gpu] [OVERRIDES]`.

Two vLLM engines in one process: one unmodified, one with the adapter and `preempt-evict`, which takes vLLM's own victims.
Both are given the same requests at once, so they schedule alike (checked: equal lengths in equal steps, equal
preemptions). A pair is a load of its own seed, run twice: on engines that were made in one order and in the other,
since the second one made is about 1 % faster, whichever it is. Prints tokens a second of both and the ratio with its
interval; exits with 1 if that reaches beyond 1 %.

The engines run on the CPU, one thread, with a model that is large enough for a step to take as long as a GPU's, and
step in turns, so that whatever else the machine does meets both; a second is one of that thread's CPU time. With --gpu
they are as vLLM makes them by default (its next step is scheduled while the GPU is at work), have the GPU in turns, a
load each, and a second is one of the clock. Through Ray and MLflow, one engine at a time: experiment=adapter_cost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before anything reads it
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from run_without_ray import compose_job  # noqa: E402

from bidkv.adapters.shared.control import write_control  # noqa: E402
from ray_jobs.drive.plan import frozen as frozen_trace  # noqa: E402
from ray_jobs.engines.job import JobConfig  # noqa: E402
from ray_jobs.engines.shared.base import request_facts  # noqa: E402
from ray_jobs.workload.trace import TraceRequest  # noqa: E402
from tracking.evidence.statistics import paired_test  # noqa: E402

WORKLOAD = ("workload=mixed", "workload.warmup_requests=0")
CPU = (*WORKLOAD, "workload.num_requests=40", "engine=vllm_cpu", "engine.tiny.hidden_size=1024",
       "engine.tiny.layers=3", "engine.num_blocks=250")  # fmt: skip
GPU = (*WORKLOAD, "workload.num_requests=80", "engine=vllm_shape", "engine.gpu_memory_utilization=0.3")
STRATEGIES = ("stock-unmodified", "preempt-evict")
LIMIT = 0.01


class Engine:
    """An engine in this process, and what it has done in the load it is given."""

    def __init__(self, job: JobConfig, folder: Path, clock: Callable[[], float]):
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from ray_jobs.engines.vllm import Backend

        backend = Backend(job.engine_used, folder)
        if job.engine_used.adapter:
            records = {f"{kind}_path": str(folder / f"{kind}.jsonl") for kind in ("events", "steps")}
            write_control(backend.control, {"strategy": job.strategy.name, "run_id": "bench", **records})
        self.engine = LLMEngine.from_engine_args(EngineArgs(**backend._engine_args()))
        self.clock = clock
        self.scheduler = self.engine.engine_core.engine_core.scheduler
        self.preemptions = 0
        preempt = self.scheduler._preempt_request

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.preemptions += 1
            return preempt(*args, **kwargs)

        self.scheduler._preempt_request = counted

    def give(self, requests: list[TraceRequest]) -> None:
        from vllm import SamplingParams

        self.seconds, self.steps, self.preemptions = 0.0, 0, 0
        self.outputs: dict[str, int] = {}  # tokens
        for request in requests:
            params = SamplingParams(
                temperature=0.0, max_tokens=request.output_tokens, ignore_eos=True, detokenize=False,
                extra_args={"bidkv": request_facts(request, 0.0)},
            )  # fmt: skip
            prompt = {"prompt_token_ids": request.prompt_token_ids.tolist()}
            self.engine.add_request(request.request_id, prompt, params)

    def step(self) -> bool:
        """Whether requests are left."""
        if not self.engine.has_unfinished_requests():
            return False
        start = self.clock()
        outputs = self.engine.step()
        self.seconds += self.clock() - start
        self.steps += 1
        for output in outputs:
            if output.finished:
                self.outputs[output.request_id] = len(output.outputs[0].token_ids)
        return self.engine.has_unfinished_requests()

    @property
    def tokens(self) -> int:
        return sum(self.outputs.values())

    @property
    def did(self) -> tuple[int, int, dict[str, int]]:
        return self.steps, self.preemptions, self.outputs


def pair(engines: list[Engine], requests: list[TraceRequest], first: int, by_step: bool) -> None:
    """One load on both engines. Raises RuntimeError if they did not do the same."""
    order = engines[first:] + engines[:first]
    for turn in [order] if by_step else [[engine] for engine in order]:
        for engine in turn:
            engine.give(requests)
        while any([engine.step() for engine in turn]):
            turn.reverse()
    if engines[0].did != engines[1].did:
        counts = [engine.did[:2] for engine in engines]
        raise RuntimeError(f"the engines did not do the same: (steps, preemptions) are {counts}")


def made(jobs: list[JobConfig], folder: Path, reverse: bool, clock: Callable[[], float]) -> list[Engine]:
    """An engine a job, in the order of the jobs; the last is made first if `reverse`."""
    engines: dict[str, Engine] = {}
    for job in reversed(jobs) if reverse else jobs:
        place = folder / job.strategy.label
        place.mkdir()
        engines[job.strategy.label] = Engine(job, place, clock)
    return [engines[job.strategy.label] for job in jobs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    load, clock = (GPU, perf_counter) if given.gpu else (CPU, process_time)
    jobs = [compose_job([*load, *given.overrides, f"strategy={name}"]) for name in STRATEGIES]
    os.environ.update(jobs[0].engine_used.env, VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR")
    tokens, seconds = np.zeros(given.pairs), np.zeros((len(jobs), given.pairs))
    for reverse in (False, True):
        with tempfile.TemporaryDirectory() as name:
            engines = made(jobs, Path(name), reverse, clock)
            # A GPU's kernels are compiled for a load's shapes when they first come, so it warms up with all of them.
            warm_up = range(given.pairs) if given.gpu else [given.pairs]
            for number, seed in enumerate([*warm_up, *range(given.pairs)]):
                pair(engines, frozen_trace(replace(jobs[0], seed=seed)).requests, seed % 2, not given.gpu)
                if number >= len(warm_up):
                    tokens[seed] += engines[0].tokens
                    seconds[:, seed] += [engine.seconds for engine in engines]
                    print(f"seed {seed}: {engines[0].seconds / engines[1].seconds:.4f}", flush=True)
            for engine in engines:
                engine.engine.engine_core.shutdown()
    rates = tokens / seconds
    table = Table("seed", *(f"{name}, tok/s" for name in STRATEGIES), "ratio")
    for seed, (stock, ours) in enumerate(rates.T):
        table.add_row(str(seed), f"{stock:.1f}", f"{ours:.1f}", f"{ours / stock:.4f}")
    Console(width=100).print(table)
    ratio = paired_test(*rates, by_ratio=True).ratio
    print(
        f"throughput with the adapter: {ratio.value:.4f} [{ratio.low:.4f}, {ratio.high:.4f}] of vLLM's without it"
    )
    if not (1 - LIMIT < ratio.low and ratio.high < 1 + LIMIT):
        sys.exit(f"the interval does not lie within {LIMIT:.0%}")


if __name__ == "__main__":
    main()
