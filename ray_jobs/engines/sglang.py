"""Real SGLang: its engine with the bidkv plugin, in SGLang's own environment (`engine.python`)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bidkv.adapters.sglang.configure import CONTROL_VARIABLE, TRUST_VARIABLE, check_installed
from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.engines.shared.live import SETTLE_S, LiveEngine
from ray_jobs.engines.shared.models import model_folder
from ray_jobs.engines.shared.sglang_arguments import engine_arguments
from ray_jobs.workload.trace import TraceRequest

POLL_S = 0.02


class Backend(LiveEngine):
    async def start(self) -> dict[str, Any]:
        """Raises `BidKVError` if the plugin is not installed, `RuntimeError` if it did not take hold."""
        import sglang

        check_installed()
        await self._idle("idle-0", start=True)
        # SGLang spawns the process that reads them.
        os.environ |= {CONTROL_VARIABLE: str(self.control), TRUST_VARIABLE: "1"}
        try:
            model = model_folder(self.config, self.folder)
            self.engine = sglang.Engine(**({"model_path": model} | engine_arguments(self.config)))
        except SystemExit as error:  # the plugin ends a process in which it cannot work
            raise RuntimeError(str(error)) from error
        started = await self._installed(self.idle)
        await self._warm_up()
        self.runs = 0
        return self._environment("sglang", sglang.__version__, started["scheduler"])

    async def begin(self, settings: AdapterSettings) -> None:
        await self.empty_cache()
        write_control(self.control, settings)
        await self._installed(settings)

    async def end(self) -> None:
        self.runs += 1
        await self.empty_cache()
        await self._idle(f"idle-{self.runs}")

    async def _reset_cache(self) -> bool:
        return (await self.engine.tokenizer_manager.flush_cache()).success

    async def generate(self, request: TraceRequest) -> AsyncIterator[Sequence[int]]:
        facts = request_facts(request, time.time())
        facts |= {"true_output_tokens": request.output_tokens, "priority": request.priority}
        stream = await self.engine.async_generate(
            input_ids=request.prompt_token_ids.tolist(),
            sampling_params={
                "temperature": 0.0,
                # Admission reckons with this; the adapter ends the output at its true length.
                "max_new_tokens": request.max_tokens,
                "custom_params": {"bidkv": facts},
            },
            rid=request.request_id,
            stream=True,
        )
        finished, tokens = False, 0
        try:
            async for output in stream:
                meta = output["meta_info"]
                reason = meta["finish_reason"]
                finished = reason is not None
                if finished and reason["type"] == "abort":
                    raise RuntimeError(f"aborted by the engine: {reason.get('message')}")
                if meta["completion_tokens"]:
                    yield output["output_ids"][tokens : meta["completion_tokens"]]
                    tokens = meta["completion_tokens"]
        finally:
            if not finished:
                self.engine.tokenizer_manager.abort_request(rid=request.request_id)

    async def _idle(self, run_id: str, start: bool = False) -> None:
        """Puts the engine between two runs."""
        self.idle = AdapterSettings(
            strategy="sglang_default",
            run_id=run_id,
            events_path=str(self.folder / f"{run_id}.events.jsonl"),
            client_facts=True,
        )
        write_control(self.control, self.idle)
        if not start:
            await self._installed(self.idle)

    async def _installed(self, settings: AdapterSettings) -> dict[str, Any]:
        """The `run_start` record that proves the plugin runs these settings; raises `RuntimeError` without it."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            if os.path.exists(settings.events_path):
                records = read_events(settings.events_path)
                if records and records[0]["type"] == "run_start":
                    return records[0]
            await asyncio.sleep(POLL_S)
        raise RuntimeError(
            f"strategy {settings.strategy!r} was not installed: SGLang runs without the bidkv plugin"
        )

    def _unfinished(self) -> int:
        return len(self.engine.tokenizer_manager.rid_to_state)
