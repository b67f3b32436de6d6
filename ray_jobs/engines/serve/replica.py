"""One engine of a fleet, in an actor of Ray Serve's."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import serve

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.shared.live import LiveEngine
from ray_jobs.engines.shared.load import Relayed
from ray_jobs.engines.shared.output import send_output_to
from ray_jobs.engines.vllm import Backend
from ray_jobs.workload.trace import TraceRequest
from tracking.store.lease import Lease

RELAY_S = 0.2  # a message for every token of every request is more than one process can read
FIRST_LETTER = 0xE000  # behind the surrogates, which are no letters


@dataclass(frozen=True)
class Asked:
    """A request as Ray Serve's routers see it."""

    request: TraceRequest

    @property
    def prompt(self) -> str:
        """A letter a token: Ray Serve LLM's prefix tree compares letters."""
        return "".join(chr(FIRST_LETTER + token) for token in self.request.prompt_token_ids.tolist())


@dataclass(frozen=True)
class Said:
    """What one replica answers to all that is told to every replica."""

    number: int
    tenant: str  # how Ray Serve LLM's prefix tree names it
    value: Any = None


class Replica:
    """Its engine is started by `start`, not by its making: a replica that Ray Serve makes anew for one that died has none,
    and whoever is sent to it fails, as does the run. `config` is one engine's, `folder` the fleet's, `log` takes what is
    printed, `owner` is the process that drives the fleet."""

    engine: LiveEngine | None = None

    def __init__(self, config: EngineConfig, folder: Path, log: Path, owner: Lease):
        context = serve.get_replica_context()
        self.number, self.application = context.rank.rank, context.app_name
        self.tenant = context.replica_id.to_full_id_str()
        self.config, self.folder, self.owner = config, folder / f"replica{self.number}", owner
        send_output_to(log)

    async def start(self, variables: Mapping[str, str], devices: Sequence[str]) -> Said:
        """Returns the engine's environment. `variables` are set first; of `devices`, all that the fleet has, it takes its
        own."""
        os.environ.update(variables)
        if devices:
            each = int(self.config.num_gpus)
            mine = devices[self.number * each : (self.number + 1) * each]
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        self.folder.mkdir()
        engine = Backend(self.config, self.folder)
        environment = await engine.start()
        self.engine = engine
        return self._said(environment)

    async def begin(self, settings: Sequence[AdapterSettings]) -> Said:
        await self._running().begin(settings[self.number])
        return self._said()

    async def generate(self, asked: Asked) -> AsyncIterator[int | Relayed]:
        """The replica's number, then the engine's own answer: its first chunk at once, the others every `RELAY_S`."""
        stream = self._running().generate(asked.request)
        yield self.number
        chunks: list[tuple[float, Sequence[int]]] = []
        relayed_t = -math.inf
        try:
            async for tokens in stream:
                now = time.perf_counter()
                chunks.append((now, tokens))
                if now - relayed_t >= RELAY_S:
                    yield Relayed(chunks)
                    chunks, relayed_t = [], now
        except Exception:  # an engine that fails has said what it has said; who asked has not given up
            if chunks:
                yield Relayed(chunks)
            raise
        if chunks:
            yield Relayed(chunks)

    async def settle(self) -> Said:
        await self._running().settle()
        return self._said()

    async def end(self) -> Said:
        await self._running().end()
        return self._said()

    async def stop(self) -> Said:
        if self.engine is not None:
            await self.engine.stop()
        return self._said()

    async def check_health(self) -> None:
        """Ray Serve asks now and then. Nobody but the owner would ever delete the application; it may have been killed."""
        if not self.owner.alive():
            serve.delete(self.application, _blocking=False)

    def _running(self) -> LiveEngine:
        if self.engine is None:
            raise RuntimeError(
                f"replica {self.number} died, and Ray Serve has made another, without an engine"
            )
        return self.engine

    def _said(self, value: Any = None) -> Said:
        return Said(self.number, self.tenant, value)


def one_of(config: EngineConfig) -> EngineConfig:
    """The engine of one replica."""
    return replace(config, replicas=1)
