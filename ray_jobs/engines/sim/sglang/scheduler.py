"""SGLang's scheduler in this process, its event loop on virtual time: what comes in, what a step takes, what goes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.server_args import ServerArgs

from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.shared.models import SPARE
from ray_jobs.engines.shared.sglang_arguments import engine_arguments
from ray_jobs.engines.sim.own_tokens import OwnTokens
from ray_jobs.engines.sim.sglang.alone import ON_CPU, SchedulerAlone
from ray_jobs.engines.sim.sglang.stand_in import write_stand_in


class World(Protocol):
    """What is around the scheduler in a run: its clients, its device, its clock."""

    def intake(self) -> Iterable[Any]:
        """A round begins: what SGLang is sent in it, in its own messages."""

    def launched(self) -> None:
        """A step was scheduled and is given to the device."""

    def ended(self) -> None:
        """The oldest step under way is over: its result is about to be processed."""

    def delivered(self, reqs: Sequence[Any]) -> None:
        """The result of a step with these requests was processed."""

    def refused(self, req: Any, reason: str) -> None:
        """A request that waited or gave its memory up ends without an answer."""

    def idle(self) -> bool:
        """Nothing was scheduled and nothing is under way; False if the run is over."""


class VirtualScheduler(SchedulerAlone):
    """Every decision and all bookkeeping are SGLang's: this replaces its sockets, its model's forward pass and its
    waiting for the device."""

    world: World

    def __init__(self, server: ServerArgs):
        super().__init__(server)
        self.tokens = OwnTokens(self.model_config.vocab_size)

    def run(self, world: World) -> None:
        """SGLang's own event loop, until `world` says that the run is over."""
        self.world, self.gracefully_exit = world, False
        self.run_event_loop()

    def reset(self) -> None:
        """As SGLang is after its start. Raises RuntimeError if a run that was broken off has left something behind."""
        if not self.flush_cache(empty_cache=False):
            raise RuntimeError("the simulated SGLang still holds requests of a run that was broken off")
        self.init_schedule_policy()
        self.tokens = OwnTokens(self.model_config.vocab_size)
        self.forward_ct = self.processed_tokens_counter = 0

    # -- SGLang's surroundings -----------------------------------------------------------------

    def ingest_requests(self, stop_at_pause: bool = False) -> list[Any]:
        taken = []
        for message in self.world.intake():  # the clock of a recording moves on between two of them
            self.process_input_requests([message])
            taken.append(message)
        return taken

    def run_batch(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().run_batch(batch, *args, **kwargs)
        self.world.launched()
        return result

    def process_batch_result(self, batch: Any, result: Any) -> None:
        self.world.ended()
        super().process_batch_result(batch, result)
        self.world.delivered(batch.reqs)

    def send_abort_output(self, abort_req: Any, req: Any) -> None:
        reason = abort_req.finished_reason or {}
        self.world.refused(req, reason.get("message") or "aborted")

    def on_idle(self) -> None:
        super().on_idle()
        self.gracefully_exit = not self.world.idle()

    def _forward(self, batch: Any, **_: Any) -> GenerationBatchResult:
        token_of = self.tokens.of
        tokens = torch.tensor([token_of(req.rid) for req in batch.reqs])
        return GenerationBatchResult(next_token_ids=tokens, can_run_cuda_graph=False)


def make_scheduler(engine: EngineConfig, folder: Path) -> VirtualScheduler:
    """Raises ValueError (SGLang's) on arguments that it does not accept."""
    model = write_stand_in(folder / "stand-in", engine.vocab_size, engine.max_model_len + SPARE)
    own = {
        "model_path": str(model),
        "watchdog_timeout": 1e9,  # a run that stands still between two rounds is not stuck
        "disable_overlap_schedule": not engine.sim.async_scheduling,
    }
    arguments = engine_arguments(engine) | ON_CPU | own
    return VirtualScheduler(ServerArgs(**arguments))
