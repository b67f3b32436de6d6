"""The project's vLLM scheduler with its clock and its records replaced, and nothing it decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from bidkv.adapters.vllm.scheduler import BidKVSchedulerMixin
from ray_jobs.engines.sim.build import SchedulerParts, run_config
from ray_jobs.engines.sim.records import StepColumns, VirtualRunLog
from ray_jobs.engines.sim.scheduling import Counts
from ray_jobs.engines.sim.shortcuts import ShortcutsMixin, has_shortcuts


class NoGrammar:
    """Stands for vLLM's structured output manager: no request has a grammar here."""

    def accept_tokens(self, request: Any, token_ids: list[int]) -> bool:
        return True

    def should_advance(self, request: Any) -> bool:  # asked by vLLM 0.26
        return False


class VirtualSchedulerMixin(BidKVSchedulerMixin):
    """Times of all records come from `clock`."""

    _bidkv_engine = "vllm_sim"
    _bidkv_environment: Mapping[str, str] = {}  # a server's recording is no place for what is simulated
    _bidkv_run_log = VirtualRunLog
    _bidkv_step_log = StepColumns
    plain_outputs: Sequence[str] = ()  # requests that got one more token outside update_from_output's result

    def __init__(self, *args: Any, clock: Callable[[], float], **kwargs: Any):
        self._bidkv_clock = clock
        super().__init__(*args, **kwargs)
        self._bidkv_randomized_ids = False
        self._bidkv_gate.look_s = math.inf  # what is decided does not depend on the machine
        self._sim_found_blocks = 0
        self._sim_find, self.kv_cache_manager.get_computed_blocks = (
            self.kv_cache_manager.get_computed_blocks,
            self._sim_counted_find,
        )

    def looks_at_most(self, candidates: float | None) -> None:
        """From now on in a step, of those who may pass; None: no such limit."""
        self._bidkv_gate.look_candidates = (
            math.inf if candidates is None or candidates != candidates else candidates
        )

    def scheduling_counts(self, scheduled: int) -> Counts:
        """What scheduling the latest step had to do; `scheduled` requests are in it. To be asked once a step."""
        looked, waiting = self._bidkv_gate.looked, len(self.waiting)
        found, self._sim_found_blocks = self._sim_found_blocks, 0
        orders = waiting > 0 and self._bidkv_line is not None
        return Counts(
            running=scheduled,
            prefix_blocks=found,
            ordered=int(orders),
            candidates=looked.candidates,
            lookups=looked.blocks,
            states=len(self.running) if looked.running else 0,
            summed=looked.running,
            keys=self._bidkv_resorted,
        )

    def _sim_counted_find(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        found = self._sim_find(request, *args, **kwargs)
        self._sim_found_blocks += found[1] // self.block_size
        return found

    @property
    def block_tokens(self) -> int:
        """Tokens by which a request grows until it takes one more block, as records have it."""
        return self._bidkv_blocks.block_size

    @property
    def pool_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self._bidkv_session.pool.capacity_tokens

    @property
    def step_columns(self) -> StepColumns:
        return self._bidkv_session.steps

    @property
    def wall_clock_counters(self) -> dict[str, int]:
        """Real nanoseconds that selecting, the preemption hook and accounting took in this run."""
        return dict(self._bidkv_session.log.counters)


class VirtualScheduler(VirtualSchedulerMixin, Scheduler):
    pass


class VirtualAsyncScheduler(VirtualSchedulerMixin, AsyncScheduler):
    pass


class FastVirtualScheduler(VirtualSchedulerMixin, ShortcutsMixin, Scheduler):
    pass


class FastVirtualAsyncScheduler(VirtualSchedulerMixin, ShortcutsMixin, AsyncScheduler):
    pass


def make_scheduler(
    parts: SchedulerParts, settings: dict[str, Any], clock: Callable[[], float], shortcuts: bool
) -> VirtualSchedulerMixin:
    """A scheduler for one run; `settings` are the adapter's, as a dictionary. Other layouts have no shortcuts."""
    config = run_config(parts, settings)
    overlapping = config.scheduler_config.async_scheduling
    if shortcuts and has_shortcuts(parts.kv_cache_config):
        cls = FastVirtualAsyncScheduler if overlapping else FastVirtualScheduler
    else:
        cls = VirtualAsyncScheduler if overlapping else VirtualScheduler
    return cls(
        vllm_config=config,
        kv_cache_config=parts.kv_cache_config,
        structured_output_manager=NoGrammar(),
        block_size=parts.block_size,
        hash_block_size=parts.hash_block_size,
        log_stats=False,
        clock=clock,
    )
