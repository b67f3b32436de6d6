"""How fast the simulator steps, beside vLLM's own scheduler on the same requests, and where the time goes.

    python scripts/profile_sim.py [--running 64] [--steps 2000] [--rounds 5] [--profile]

Times are CPU time, and variants take turns in short rounds, so that a busy machine slows all of them
alike; the table shows the median round and the best. `schedule` is stock vLLM's schedule() alone,
`stock` its whole loop without any model (schedule, sampled tokens, update_from_output), `simulator`
all that a simulated step does. Every request decodes in every step; none arrives or leaves.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import os
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import numpy as np  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.outputs import ModelRunnerOutput  # noqa: E402

import ray_jobs.run  # noqa: E402, F401 (registers the configuration's schema)
from bidkv.adapters.shared.settings import AdapterSettings  # noqa: E402
from ray_jobs.engines.config import EngineConfig  # noqa: E402
from ray_jobs.engines.sim.build import SchedulerParts, build_parts, make_request, run_config  # noqa: E402
from ray_jobs.engines.sim.clients import VirtualClients  # noqa: E402
from ray_jobs.engines.sim.clock import VirtualClock  # noqa: E402
from ray_jobs.engines.sim.loop import Simulation  # noqa: E402
from ray_jobs.engines.sim.roofline import StepTimeModel  # noqa: E402
from ray_jobs.engines.sim.scheduler import NoGrammar, make_scheduler  # noqa: E402
from ray_jobs.workload.trace import Trace, TraceRequest  # noqa: E402
from tracking.cli import CONF  # noqa: E402

PROMPT, BLOCKS = 256, 60_000
Round = Callable[[int], tuple[float, ...]]


class Stock:
    """vLLM's scheduler as it comes."""

    def __init__(self, parts: SchedulerParts, trace: Trace):
        config = run_config(parts, {})
        cls = AsyncScheduler if config.scheduler_config.async_scheduling else Scheduler
        self.scheduler = cls(
            vllm_config=config, kv_cache_config=parts.kv_cache_config, structured_output_manager=NoGrammar(),
            block_size=parts.block_size, hash_block_size=parts.block_size, log_stats=False,
        )  # fmt: skip
        for r in trace.requests:
            self.scheduler.add_request(
                make_request(
                    parts,
                    r.request_id,
                    r.prompt_token_ids.tolist(),
                    max_tokens=r.output_tokens,
                    arrival_time=0.0,
                    priority=0,
                    declared={},
                )  # fmt: skip
            )

    def steps(self, count: int) -> tuple[float, float]:
        """CPU seconds in schedule() and in all."""
        scheduler, clock = self.scheduler, time.thread_time
        scheduling, start = 0.0, clock()
        for _ in range(count):
            before = clock()
            output = scheduler.schedule()
            scheduling += clock() - before
            ids = list(output.num_scheduled_tokens)
            sampled = [[] if scheduler.requests[i].is_prefill_chunk else [7] for i in ids]
            scheduler.update_from_output(
                output, ModelRunnerOutput(ids, {r: i for i, r in enumerate(ids)}, sampled)
            )
        return scheduling, clock() - start


class Simulated:
    """The simulator on the same requests."""

    def __init__(
        self, parts: SchedulerParts, trace: Trace, engine: EngineConfig, shortcuts: bool, folder: Path
    ):
        settings = AdapterSettings(
            strategy="preempt-evict",
            run_id="profile",
            events_path=str(folder / "events.jsonl"),
            steps_path="memory",
        )
        clock, clients = VirtualClock(), VirtualClients(trace, 1e9)
        scheduler = make_scheduler(parts, settings.to_dict(), clock, shortcuts)
        model = StepTimeModel(engine.sim.model_shape, engine.sim.hardware, engine.sim.calibration)
        self.simulation = Simulation(parts, scheduler, clients, model, clock, 1e9, 1e9)

    def steps(self, count: int) -> tuple[float]:
        turn, start = self.simulation._turn, time.thread_time()
        for _ in range(count):
            turn()
        return (time.thread_time() - start,)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--running", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200, help="steps a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--profile", action="store_true", help="also profile the simulator")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder))


def measure(args: argparse.Namespace, folder: Path) -> None:
    outputs = args.steps * (args.rounds + 3)
    for caching in (False, True):
        for overlap in (True, False):
            engine = simulated_engine(args.running, PROMPT + outputs + 16, caching, overlap)
            parts = build_parts(engine, folder)
            trace = all_at_once(args.running, outputs)
            print(
                f"\n{args.running} running, prefix caching {'on' if caching else 'off'}, "
                f"{'async' if overlap else 'sync'} scheduling: CPU µs per step, median (best) of {args.rounds} rounds"
            )
            stock = Stock(parts, trace)
            variants = {
                "simulator": Simulated(parts, trace, engine, True, folder),
                "simulator, engine.sim.shortcuts=false": Simulated(parts, trace, engine, False, folder),
            }
            report(args, stock, variants)
            if args.profile and overlap:
                profile(variants["simulator"], args.steps)


def report(args: argparse.Namespace, stock: Stock, variants: dict[str, Simulated]) -> None:
    times: dict[str, list[float]] = {"schedule": [], "stock": []} | {name: [] for name in variants}
    gc.collect()
    gc.disable()
    for number in range(args.rounds + 1):
        scheduling, total = stock.steps(args.steps)
        measured = {"schedule": scheduling, "stock": total}
        measured |= {name: variant.steps(args.steps)[0] for name, variant in variants.items()}
        if number:  # the first one also prefills
            for name, seconds in measured.items():
                times[name].append(seconds / args.steps * 1e6)
    gc.enable()
    for name, rounds in times.items():
        ratios = ", ".join(
            f"{median(np.array(rounds) / np.array(times[base])):.2f}x {base}"
            for base in ("schedule", "stock")
        )
        print(
            f"  {name:38} {median(rounds):7.0f} ({min(rounds):.0f})   {1e6 / median(rounds):6.0f} steps/s   {ratios}"
        )


def profile(simulated: Simulated, steps: int) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(simulated.steps, steps)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(22)


def simulated_engine(running: int, length: int, caching: bool, overlap: bool) -> EngineConfig:
    overrides = [
        "engine=vllm_sim",
        f"engine.max_num_seqs={running}",
        f"engine.num_blocks={BLOCKS}",
        f"engine.max_model_len={max(8192, length)}",
        f"engine.prefix_caching={caching}",
        f"engine.sim.async_scheduling={overlap}",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", overrides).engine)


def all_at_once(count: int, outputs: int) -> Trace:
    generator = np.random.default_rng(0)
    return Trace(
        "profile",
        0,
        tuple(
            TraceRequest(f"r{i}", 0.0, generator.integers(3, 100_000, PROMPT), outputs, outputs)
            for i in range(count)
        ),
    )


if __name__ == "__main__":
    main()
