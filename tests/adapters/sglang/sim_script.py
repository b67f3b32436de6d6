"""Real and simulated SGLang of the same configuration, in processes of their own: `sim_script.py record|simulate FOLDER ENGINE`.

FOLDER/jobs.json says which engines, {name: {"overrides": [...], "runs": {name: strategy}}}. `record` runs them for real and
leaves FOLDER/<engine>.pickle. `simulate` replays those, runs the same loads on virtual time, and writes FOLDER/<engine>.json.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
MAX_LEN = 512
LIMITS = [
    f"engine.max_model_len={MAX_LEN}", "engine.max_num_seqs=12", "engine.max_num_batched_tokens=128", "engine.python=null",
    "run.log_schedule=true",
]  # fmt: skip


def compose_job(kind: str, *overrides: str) -> Any:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import ray_jobs.run  # noqa: F401 (registers the configuration's schema)

    words = [f"engine={kind}", *LIMITS, *overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_object(compose("config", words))


def trace_of(seed: int, size: int = 60) -> Any:
    """Every second request begins with the same 70 tokens, the last one is as long as a request may be; the pool is far too
    small for all."""
    from ray_jobs.workload.trace import Trace, TraceRequest

    draw = np.random.default_rng(seed)
    arrivals = np.cumsum(draw.exponential(1 / 60, size))
    common = draw.integers(3, 500, 70)
    requests = []
    for i in range(size):
        tokens = draw.integers(3, 500, draw.integers(10, 90, endpoint=True))
        length = int(draw.integers(40, 120, endpoint=True))
        prompt = np.concatenate([common, tokens]) if i % 2 else tokens
        most = length + int(draw.integers(0, 60))
        requests.append(TraceRequest(f"r{i:04}", float(arrivals[i]), prompt, length, most))
    longest = TraceRequest(f"r{size:04}", float(arrivals[-1]), draw.integers(3, 500, MAX_LEN - 40), 40, 40)
    return Trace("random", seed, (*requests, longest))


async def record(folder: Path, name: str, what: dict[str, Any]) -> None:
    from ray_jobs.engines import make_backend

    runs = {}
    with tempfile.TemporaryDirectory() as scratch:
        backend = make_backend(compose_job("sglang_cpu", *what["overrides"]).engine, Path(scratch))
        await backend.start()
        try:
            for seed, (run, strategy) in enumerate(what["runs"].items()):
                job = compose_job("sglang_cpu", *what["overrides"], f"strategy={strategy}")
                result = await backend.run(trace_of(seed), job, run)
                assert result.status == "finished" and (result.requests["status"] == "ok").all(), run
                runs[run] = (strategy, seed, result.events, result.steps.to_dict("records"))
        finally:
            await backend.stop()
    (folder / f"{name}.pickle").write_bytes(pickle.dumps(runs))


def simulate(folder: Path, name: str, what: dict[str, Any]) -> None:
    from bidkv.adapters.shared.settings import AdapterSettings
    from ray_jobs.engines.sim.sglang.engine import SimulatedSGLang
    from ray_jobs.engines.sim.sglang.replay import replay
    from ray_jobs.engines.sim.sglang.simulate import simulate as run_trace

    config = compose_job("sglang_sim", *what["overrides"]).engine
    with tempfile.TemporaryDirectory() as scratch:
        engine, sim = SimulatedSGLang(config, Path(scratch)), replace(config.sim, check=True)

        def settings(run: str, strategy: str) -> AdapterSettings:
            path = str(Path(scratch) / f"{run}.jsonl")
            return AdapterSettings(
                strategy,
                run_id="run",
                events_path=path,
                steps_path="memory",
                log_schedule=True,
                client_facts=True,
            )

        def facts(outcome: Any) -> dict[str, Any]:
            logs = [(log.status, log.output_tokens, log.first_token_t, log.finish_t) for log in outcome.logs]
            return {
                "status": outcome.status,
                "events": outcome.events,
                "logs": logs,
                "end": outcome.duration_s,
            }

        found: dict[str, Any] = {"replays": {}, "another": {}, "runs": {}}
        for run, (strategy, seed, events, steps) in pickle.loads(
            (folder / f"{name}.pickle").read_bytes()
        ).items():
            done = replay(engine, trace_of(seed), events, steps, settings(f"{run}-again", strategy))
            found["replays"][run] = {"recorded": len(steps), **vars(done)}
            other = "lcf" if strategy != "lcf" else "bidkv"
            done = replay(engine, trace_of(seed), events, steps, settings(f"{run}-other", other))
            found["another"][run] = vars(done)
            found["runs"][run] = [
                facts(run_trace(engine, sim, trace_of(seed), settings(f"{run}-{i}", strategy)))
                for i in range(2)
            ]
        late = run_trace(engine, sim, trace_of(0), settings("late", "backfill"), 1.0, 1.5)
        found["late"] = facts(late)
        found["one_late"] = one_late(engine, sim, trace_of(0, 1), settings)
        slow = run_slowly(
            engine, replace(sim, wall_timeout_s=1e-9), trace_of(0), settings("slow", "backfill")
        )
        after = run_trace(engine, sim, trace_of(0), settings("after", "backfill"))
        leak = run_with_a_leak(engine, sim, trace_of(0), settings("leak", "sglang_default"))
        found |= {"slow": slow, "after": facts(after), "leak": leak}
    (folder / f"{name}.json").write_text(json.dumps(found))


def one_late(engine: Any, sim: Any, trace: Any, settings: Callable[[str, str], Any]) -> list[list[str]]:
    """How two requests end, without a deadline, and with one within the step that answers the second of them."""
    from ray_jobs.engines.sim.sglang.simulate import simulate as run_trace

    logs = run_trace(engine, sim, trace, settings("in-time", "sglang_default")).logs
    limit = max(log.finish_t - log.sent_t for log in logs) - 1e-6
    cut = run_trace(engine, sim, trace, settings("one-late", "sglang_default"), limit).logs
    return [[log.status for log in of] for of in (logs, cut)]


def run_slowly(engine: Any, sim: Any, trace: Any, settings: Any) -> str:
    from ray_jobs.engines.sim.sglang.simulate import simulate as run_trace

    try:
        run_trace(engine, sim, trace, settings)
    except TimeoutError as error:
        return str(error)
    return "not too slow"


def run_with_a_leak(engine: Any, sim: Any, trace: Any, settings: Any) -> str:
    """What is said when a free page is lost. The engine is of no use after it."""
    from ray_jobs.engines.sim.conservation import ConservationError
    from ray_jobs.engines.sim.sglang.simulate import simulate as run_trace

    scheduler, steps = engine.scheduler, count()
    allocator, run_batch = scheduler.token_to_kv_pool_allocator, scheduler.run_batch

    def lose(batch: Any) -> Any:
        if next(steps) == 50:
            allocator.free_pages = allocator.free_pages[1:]
        return run_batch(batch)

    scheduler.run_batch = lose
    try:
        run_trace(engine, sim, trace, settings)
    except ConservationError as error:
        return str(error)
    return "nobody saw it"


def main() -> None:
    command, folder = sys.argv[1], Path(sys.argv[2])
    logging.getLogger("sglang").setLevel(logging.ERROR)
    jobs = json.loads((folder / "jobs.json").read_text())
    name = sys.argv[3]
    if command == "record":
        asyncio.run(record(folder, name, jobs[name]))
    else:
        simulate(folder, name, jobs[name])


if __name__ == "__main__":
    main()
