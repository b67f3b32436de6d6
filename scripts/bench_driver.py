"""What a run costs the driver, with up to 1,000 engines: `python scripts/bench_driver.py engines=100 runs=1000`.

The engines are stubs, many to a process: a run is a pause and a small result. Ray, the sweep driver and, with
record=true, the recorder, the spool, the uploader and MLflow on SQLite are the real ones. Prints one row: wall
time, CPU of the driver a run, and the driver's resident memory after a tenth of the runs and at the end.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import psutil
import ray
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tracking"))
from synthetic import make_run  # noqa: E402

from ray_jobs.drive import sweep as sweep_module  # noqa: E402
from ray_jobs.drive.config import BenchConfig, ClusterConfig  # noqa: E402
from ray_jobs.drive.plan import plan_blocks  # noqa: E402
from ray_jobs.drive.progress import SweepProgress  # noqa: E402
from ray_jobs.engines.config import EngineConfig  # noqa: E402
from ray_jobs.engines.job import StrategyConfig  # noqa: E402
from ray_jobs.workload.config import SourceConfig, WorkloadConfig  # noqa: E402
from ray_jobs.workload.length_config import LengthConfig  # noqa: E402
from ray_jobs.workload.source_config import ComponentConfig  # noqa: E402
from tracking.metrics.catalogue import compute_metrics, run_flags  # noqa: E402
from tracking.metrics.config import SloConfig  # noqa: E402
from tracking.result import RunResult  # noqa: E402
from tracking.store.config import TrackingConfig  # noqa: E402

HOSTS = 2  # processes that hold the stubs
STRATEGIES = ("preempt-evict", "lcf", "lcf-guard", "bidkv", "largest-first")


@ray.remote(num_cpus=0, max_concurrency=1000)
class StubHost:
    """Many engines in one process."""

    def __init__(self, result: RunResult):
        self.result = result

    async def run(self, seconds: float) -> tuple:
        await asyncio.sleep(seconds)
        return "finished", self.result


def stub_result() -> RunResult:
    return make_run("preempt-evict", seed=0, rate=6.0, requests=20, repeat=0)


class StubEngine:
    device_kind, environment, log = "stub", {"engine": "stub"}, b""

    def __init__(self, config: EngineConfig, host: ray.actor.ActorHandle, seconds: float):
        self.config, self.host, self.seconds = config, host, seconds

    async def run(self, trace: ray.ObjectRef, job: BenchConfig, run_id: str) -> ray.ObjectRef:
        pause = random.uniform(0.5, 1.5) * self.seconds
        status, result = self.host.run.options(num_returns=2).remote(pause)
        await status
        return result

    async def stop(self) -> None:
        """Nothing to stop."""


class StubPool:
    def __init__(self, seconds: float):
        self.seconds, self.started = seconds, 0
        self.hosts: list[ray.actor.ActorHandle] = []

    def hopeless(self, config: EngineConfig) -> bool:
        return False

    async def start(self, config: EngineConfig, cell: str, kinds: object, say: object) -> StubEngine:
        if not self.hosts:
            result = stub_result()
            self.hosts = [StubHost.remote(result) for _ in range(HOSTS)]
        self.started += 1
        return StubEngine(config, self.hosts[self.started % HOSTS], self.seconds)


def null_recorder(result: RunResult) -> type:
    """With record=false: what the driver waits for is answered at once, in a process of its own."""
    answer = None, compute_metrics(result, SloConfig()), run_flags(result)

    class NullRecorder:
        def __init__(self, *facts: object):
            pass

        def keep(self, *facts: object) -> tuple:
            return answer

        def fail(self, *facts: object) -> None:
            """Nothing is kept."""

    return NullRecorder


def jobs(runs: int, folder: str) -> list[BenchConfig]:
    length = LengthConfig(median=8, max=8)
    source = SourceConfig(components={"chat": ComponentConfig(prompt=length, output=length)})
    workload = WorkloadConfig(name="stub", num_requests=4, rate=6.0, source=source)
    engine = EngineConfig(kind="vllm", model="stub", num_blocks=600)
    tracking = TrackingConfig(f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts", spool=f"{folder}/spool")
    strategies = [StrategyConfig(name, "fcfs", "lifo", label=name) for name in STRATEGIES]
    return [
        BenchConfig(strategy, workload, engine, seed=seed, tracking=tracking, figures=f"{folder}/figures",
                    cluster=ClusterConfig(num_cpus=2))
        for seed in range(-(-runs // len(STRATEGIES))) for strategy in strategies
    ][:runs]  # fmt: skip


def main(engines: int = 10, runs: int = 100, seconds: float = 1.0, record: bool = True) -> None:
    process = psutil.Process()
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        blocks = plan_blocks(jobs(runs, folder))
        progress = SweepProgress(Console(file=nothing), runs)
        finished = progress.finished

        def count(name: str, row: object) -> None:
            finished(name, row)
            memory.append(process.memory_info().rss / 2**20)

        progress.finished = count
        if not record:
            sweep_module.Recorder = null_recorder(stub_result())
        sweep = sweep_module.Sweep(blocks, progress)
        sweep.engines = StubPool(seconds)
        sweep_module.engines_that_fit = lambda jobs: engines
        sweep.prepare()
        start, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
        outcome = sweep.run()
        wall, cpu = time.perf_counter() - start, sum(process.cpu_times()[:2]) - cpu
    print(
        f"engines={engines} runs={runs} record={record} done={len(outcome.rows)} wall={wall:.1f}s "
        f"driver={1000 * cpu / runs:.1f}ms/run memory={memory[runs // 10]:.0f}->{memory[-1]:.0f}MiB"
    )


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(
        int(given.get("engines", 10)), int(given.get("runs", 100)), float(given.get("seconds", 1.0)),
        given.get("record", "true") == "true",
    )  # fmt: skip
