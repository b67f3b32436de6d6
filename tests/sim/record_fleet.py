"""Records runs of two real engines on the CPU behind a router of ours: `record_fleet.py OUT JOBS`, started by the tests.

JOBS is a JSON file: {"overrides": [...], "runs": [{"id", "strategy", "router", "trace"}]}. Each run is saved in OUT/<id> (see
RunResult.save), the router's choices beside it in choices.json.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from record_engine import job

REPLICAS = 2


async def record(out: Path, what: dict[str, Any]) -> None:
    from ray_jobs.engines import make_backend

    with tempfile.TemporaryDirectory() as scratch:
        engines = []
        for number in range(REPLICAS):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            engines.append(make_backend(job(what["overrides"]).engine, folder))
            await engines[-1].start()
        try:
            for run in what["runs"]:
                await drive(
                    engines, run, job([*what["overrides"], f"strategy={run['strategy']}"]), out / run["id"]
                )
        finally:
            for engine in engines:
                await engine.stop()


async def drive(engines: list[Any], run: dict[str, Any], what: Any, folder: Path) -> None:
    from ray_jobs.engines.routers.base import Known
    from ray_jobs.engines.routers.config import RouterConfig
    from ray_jobs.engines.shared.live import Sent
    from ray_jobs.engines.shared.load import LoadGenerator
    from ray_jobs.engines.shared.replicas import read_results
    from ray_jobs.engines.sim.replay_fleet import Choice
    from ray_jobs.workload.trace import Trace, TraceRequest

    settings = engines[0].adapter_settings(what, run["id"])
    own = [settings.of_rank(f"replica{number}") for number in range(REPLICAS)]
    for engine, each in zip(engines, own, strict=True):
        await engine.begin(each)
    pool = (what.engine.num_blocks - 1) * what.engine.block_size
    rule = RouterConfig(run["router"]).make(REPLICAS, pool, settings.seed)
    live: list[set[str]] = [set() for _ in engines]
    choices: list[Choice] = []

    async def generate(request: TraceRequest) -> AsyncIterator[Sequence[int]]:
        name, known, now = (
            request.request_id,
            [Known(len(each)) for each in live],
            asyncio.get_running_loop().time(),
        )
        number = rule.choose(request, [Known(len(each)) for each in live], now)
        choices.append(Choice(name, now, known, number))
        live[number].add(name)
        async for tokens in engines[number].generate(request):
            yield tokens
        live[number].discard(name)

    load = LoadGenerator(Trace.load(run["trace"]), generate, 300.0, 900.0)
    status = await load.run()
    for engine in engines:
        await engine.settle()
        await engine.end()
    result = read_results(
        own, Sent(load.logs, status, 0.0, 0.0, 0.0), {c.request_id: c.replica for c in choices}
    )
    result.save(folder)
    (folder / "choices.json").write_text(json.dumps([asdict(choice) for choice in choices]))


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())))
