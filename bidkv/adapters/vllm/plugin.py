"""vLLM general plugin: `BIDKV_STRATEGY=bidkv vllm serve …` runs with the strategy, no other change.

vLLM loads it in every process. Without `BIDKV_STRATEGY` it does nothing; with it, an engine for
which nobody chose a scheduler class gets ours.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from bidkv.adapters.vllm.configure import STRATEGY_VARIABLE, environment_settings
from bidkv.adapters.vllm.metrics import show_meters
from bidkv.errors import BidKVError


def register() -> None:
    """The entry point. Exits with code 2 if `BIDKV_STRATEGY` names no strategy."""
    if not os.environ.get(STRATEGY_VARIABLE):
        return
    try:
        environment_settings().build()
    except BidKVError as error:
        print(f"error: {STRATEGY_VARIABLE}: {error}", file=sys.stderr)
        sys.exit(2)

    show_meters()
    from vllm.config import SchedulerConfig

    stock = SchedulerConfig.get_scheduler_cls
    if getattr(stock, "chosen_by_bidkv", False):
        return

    def get_scheduler_cls(self: SchedulerConfig) -> Any:
        if self.scheduler_cls is not None:
            return stock(self)
        # Imported here: the scheduler pulls in the whole engine, and most processes never ask for it.
        from bidkv.adapters.vllm.scheduler import create_scheduler

        return create_scheduler

    get_scheduler_cls.chosen_by_bidkv = True
    SchedulerConfig.get_scheduler_cls = get_scheduler_cls
