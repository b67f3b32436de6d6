"""What the adapter costs in throughput, on a real engine: `python scripts/bench_throughput.py [--pairs 8] [OVERRIDES]`.

Two vLLM engines in one process: one unmodified, one with the adapter and `preempt-evict`, which takes vLLM's own victims.
Both are given the same requests at once, so they schedule alike (checked: equal outputs in equal steps, equal
preemptions), and step in turns of ten, so that whatever else the machine does meets both. A pair is a load of its own
seed. Half of the pairs run on engines that were made in the other order: which memory an engine gets may matter as
much. Prints tokens a second of both and the ratio with its interval; exits with 1 if that reaches beyond 1 %.

Runs on the CPU by default, on a model that is large enough for a step to take as long as a GPU's. The same question
through Ray and MLflow, one engine at a time: experiment=adapter_cost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from bidkv.adapters.shared.control import write_control
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import frozen as frozen_trace
from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.workload.trace import TraceRequest
from tracking.cli import CONF
from tracking.evidence.statistics import paired_test

LOAD = (
    "engine=vllm_cpu", "engine.tiny.hidden_size=1024", "engine.tiny.layers=3", "engine.num_blocks=400",
    "workload=mixed", "workload.num_requests=60", "workload.warmup_requests=0",
)  # fmt: skip
STRATEGIES = ("stock-unmodified", "preempt-evict")
TURN = 10  # steps of one engine before it is the other's turn
LIMIT = 0.01


def composed(*overrides: str) -> JobConfig:
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", [*LOAD, *overrides]))


class Engine:
    """An engine in this process, and what it has done in the load it is given."""

    def __init__(self, job: JobConfig, folder: Path):
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from ray_jobs.engines.vllm import Backend

        backend = Backend(job.engine_used, folder)
        if job.engine_used.adapter:
            records = {f"{kind}_path": str(folder / f"{kind}.jsonl") for kind in ("events", "steps")}
            write_control(backend.control, {"strategy": job.strategy.name, "run_id": "bench", **records})
        self.engine = LLMEngine.from_engine_args(EngineArgs(**backend._engine_args()))
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
        self.outputs: dict[str, list[int]] = {}
        for request in requests:
            params = SamplingParams(
                temperature=0.0, max_tokens=request.output_tokens, ignore_eos=True, detokenize=False,
                extra_args={"bidkv": request_facts(request, 0.0)},
            )  # fmt: skip
            prompt = {"prompt_token_ids": request.prompt_token_ids.tolist()}
            self.engine.add_request(request.request_id, prompt, params)

    def turn(self) -> bool:
        """Some steps; whether requests are left."""
        start = perf_counter()
        for _ in range(TURN):
            if not self.engine.has_unfinished_requests():
                break
            for output in self.engine.step():
                if output.finished:
                    self.outputs[output.request_id] = list(output.outputs[0].token_ids)
            self.steps += 1
        self.seconds += perf_counter() - start
        return self.engine.has_unfinished_requests()

    @property
    def tokens_per_s(self) -> float:
        return sum(map(len, self.outputs.values())) / self.seconds

    @property
    def did(self) -> tuple[int, int, dict[str, list[int]]]:
        return self.steps, self.preemptions, self.outputs


def pair(engines: list[Engine], requests: list[TraceRequest], first: int) -> None:
    """One load on both engines. Raises RuntimeError if they did not do the same."""
    order = engines[first:] + engines[:first]
    for engine in engines:
        engine.give(requests)
    while any([engine.turn() for engine in order]):
        order.reverse()
    if engines[0].did != engines[1].did:
        counts = [engine.did[:2] for engine in engines]
        raise RuntimeError(f"the engines did not do the same: (steps, preemptions) are {counts}")


def made(jobs: list[JobConfig], folder: Path, reverse: bool) -> list[Engine]:
    """An engine a job, in the order of the jobs; the last is made first if `reverse`."""
    engines: dict[str, Engine] = {}
    for job in reversed(jobs) if reverse else jobs:
        place = folder / job.strategy.label
        place.mkdir()
        engines[job.strategy.label] = Engine(job, place)
    return [engines[job.strategy.label] for job in jobs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    jobs = [composed(*given.overrides, f"strategy={name}") for name in STRATEGIES]
    os.environ.update(jobs[0].engine_used.env, VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR")
    table = Table("seed", "steps", "preemptions", *(f"{name}, tok/s" for name in STRATEGIES), "ratio")
    found: list[list[float]] = []
    for half in (False, True):
        with tempfile.TemporaryDirectory() as name:
            engines = made(jobs, Path(name), reverse=half)
            for seed in range(-1, given.pairs // 2):  # the first only warms up
                number = seed + 1 + half * given.pairs
                pair(engines, frozen_trace(replace(jobs[0], seed=number)).requests, seed % 2)
                if seed < 0:
                    continue
                rates = [engine.tokens_per_s for engine in engines]
                found.append(rates)
                steps, preemptions, _ = engines[0].did
                texts = [f"{rate:.1f}" for rate in rates]
                table.add_row(str(number), str(steps), str(preemptions), *texts, f"{rates[1] / rates[0]:.4f}")
                print(f"{rates[1] / rates[0]:.4f}", flush=True)
            for engine in engines:
                engine.engine.engine_core.shutdown()
    Console(width=100).print(table)
    ratio = paired_test(*np.array(found).T, by_ratio=True).ratio
    print(
        f"throughput with the adapter: {ratio.value:.4f} [{ratio.low:.4f}, {ratio.high:.4f}] of vLLM's without it"
    )
    if not (1 - LIMIT < ratio.low and ratio.high < 1 + LIMIT):
        sys.exit(f"the interval does not lie within {LIMIT:.0%}")


if __name__ == "__main__":
    main()
