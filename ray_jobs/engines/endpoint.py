"""A server that is up already, driven over HTTP. It ends nothing and changes nothing but, where it is told of one, what the
control file says, for the length of a run."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.control import AS_STARTED
from bidkv.adapters.shared.meter import strategy_labels
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.openai.ask import scrape
from ray_jobs.engines.openai.client import Client
from ray_jobs.engines.openai.counters import (
    CONTROL_ERRORS,
    KILL_SWITCH,
    STRATEGY_INFO,
    Counters,
    counted_between,
    finished_between,
)
from ray_jobs.engines.openai.switch import Switch
from ray_jobs.engines.shared.base import host_environment
from ray_jobs.engines.shared.live import SETTLE_S, LiveEngine, Sent, unrecorded_result
from ray_jobs.workload.trace import Trace, TraceRequest
from tracking.result import RunResult

LEASE_S = 120.0  # beyond a run's deadline; then a server whose driver was killed goes back to its own choices
LOOK_S = 0.1
FIRST_ID = 3  # ids below it stand for ends and gaps in many vocabularies


class Backend(LiveEngine):
    """`config` is as `ray_jobs.engines.openai.ask.asked` made it."""

    def __init__(self, config: EngineConfig, folder: Path):
        super().__init__(config, folder)
        self._client = Client(config)
        self._switch = Switch(config.control_file)
        self._shift = 0

    async def start(self) -> dict[str, Any]:
        await self._client.open()
        await self._warm_up()
        server, client = self.config.server, host_environment()
        sizes = {key: int(server[key]) for key in ("num_blocks", "block_size") if key in server}
        return client | sizes | {
            "engine": f"endpoint ({server['engine']})",
            "engine_version": server["version"],
            "device": f"server {self.config.url}",
            "cpu": f"client {client['cpu']}",
        }  # fmt: skip

    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> RunResult:
        """Raises RuntimeError if the server does not take the strategy, or does not answer any more at the end."""
        with self._switch:
            return await super().run(trace, job, run_id)

    async def stop(self) -> None:
        self._switch.put_back()
        await self._client.close()

    def adapter_settings(self, job: JobConfig, run_id: str) -> AdapterSettings:
        settings = super().adapter_settings(job, run_id)
        return replace(settings, until=time.time() + job.run.timeout_s + LEASE_S)

    async def begin(self, settings: AdapterSettings) -> None:
        """The server's prefix cache is not ours to empty. So the ids of each run are turned by an amount of its own: what
        its requests share they share still, and nothing is left of them from an earlier run."""
        span = self.config.vocab_size - FIRST_ID
        self._shift = int(hashlib.sha256(settings.run_id.encode()).hexdigest(), 16) % span
        self._client.prompt_tokens.clear()
        self._found = await self._scrape()
        if self.config.control_file is not None:
            self._switch.turn(settings)
            await self._taken(settings, self._found)
        self._before = await self._scrape()

    async def end(self) -> None:
        self._after = await self._scrape()
        try:
            await self._one_token()
        except Exception as error:
            raise RuntimeError(f"the server at {self.config.url} does not answer any more: {error}") from None
        if self.config.control_file is not None:
            self._switch.write(
                AS_STARTED
            )  # before the file is as it was: it may not have been there, or say half
            await self._one_token()
        self._switch.put_back()

    def _result(self, settings: AdapterSettings, sent: Sent) -> RunResult:
        result = unrecorded_result(sent)
        counts = result.requests["request_id"].map(self._client.prompt_tokens)
        known = counts.notna()
        trace_tokens = int(result.requests["prompt_tokens"][known].sum())
        result.requests["prompt_tokens"] = counts.fillna(result.requests["prompt_tokens"]).astype(int)
        result.counted = counted_between(self._before, self._after)
        served, tokens = int(counts[known].sum()), trace_tokens
        if served != tokens:
            result.remarks["prompt_counts"] = (
                f"the server counts {served} prompt tokens where the trace has {tokens}"
            )
        others = (finished_between(self._before, self._after) or 0) - result.requests["sent_t"].notna().sum()
        if others > 0:
            result.remarks["other_clients"] = f"{others:.0f} requests of other clients were served meanwhile"
        return result

    async def _reset_cache(self) -> bool:
        raise NotImplementedError("a server's cache is not ours to empty")

    async def generate(self, request: TraceRequest) -> AsyncIterator[Sequence[int]]:
        ids = (request.prompt_token_ids - FIRST_ID + self._shift) % (
            self.config.vocab_size - FIRST_ID
        ) + FIRST_ID
        async for tokens in self._client.stream(request.request_id, ids.tolist(), request.output_tokens):
            yield tokens

    def _unfinished(self) -> int:
        return 0  # what the client gave up the server aborts when the connection closes

    async def _scrape(self) -> Counters | None:
        return await asyncio.to_thread(scrape, self.config)

    async def _one_token(self) -> None:
        """An engine without work looks at its control file when a request comes."""
        async for _ in self._client.stream("bidkv-look", [FIRST_ID] * 4, 1):
            pass

    async def _taken(self, settings: AdapterSettings, before: Counters) -> None:
        """Raises RuntimeError if the server does not say that these settings hold."""
        wanted = strategy_labels(settings, settings.build())
        await self._one_token()
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            now = await self._scrape()
            found = now.infos.get(STRATEGY_INFO, {}) if now else {}
            if wanted.items() <= found.items() and now.sums.get(KILL_SWITCH) == settings.kill_switch:
                return
            if now and now.sums.get(CONTROL_ERRORS, 0) > before.sums.get(CONTROL_ERRORS, 0):
                break
            await asyncio.sleep(LOOK_S)
        raise RuntimeError(
            f"the server at {self.config.url} did not take strategy {settings.strategy!r} from "
            f"{self.config.control_file}: is that its --bidkv-control? Its log says more"
        )
