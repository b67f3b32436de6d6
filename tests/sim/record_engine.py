"""Records runs of the real engine on the CPU: `record_engine.py OUT JOBS`, started by the tests.

JOBS is a JSON file, a list of engines, one after another: {"overrides": [...], "runs": [{"id", "strategy", "trace"}]}.
Each run is saved in OUT/<id> (see RunResult.save). A process of its own, since vLLM reads its environment once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
from pathlib import Path

gc.set_threshold(200_000, 20, 100)  # vLLM's core, a spawned process, reads this file, too
CONF = Path(__file__).resolve().parents[2] / "conf"


def job(overrides: list[str]):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import ray_jobs.run  # noqa: F401 (registers the configuration's schema)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", ["engine=vllm_cpu", *overrides]))


async def record(out: Path, engine: dict) -> None:
    from ray_jobs.engines import make_backend
    from ray_jobs.workload.trace import Trace

    with tempfile.TemporaryDirectory() as scratch:
        backend = make_backend(job(engine["overrides"]).engine, Path(scratch))
        environment = await backend.start()
        try:
            for run in engine["runs"]:
                what = job([*engine["overrides"], f"strategy={run['strategy']}"])
                result = await backend.run(Trace.load(run["trace"]), what, run["id"])
                result.environment = environment
                result.save(out / run["id"])
        finally:
            await backend.stop()


if __name__ == "__main__":
    for engine in json.loads(Path(sys.argv[2]).read_text()):
        asyncio.run(record(Path(sys.argv[1]), engine))
