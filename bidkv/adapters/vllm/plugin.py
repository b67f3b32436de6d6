"""vLLM general plugin: `BIDKV_STRATEGY=bidkv vllm serve …` runs with the strategy, no other change.

vLLM loads it in every process. Without `BIDKV_STRATEGY` it does nothing; with it, an engine gets our scheduler,
and one for which somebody chose another is refused.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from bidkv.adapters.shared.variables import refuse_unknown
from bidkv.adapters.vllm.records.metrics import show_meters
from bidkv.adapters.vllm.server.configure import (
    RECORD_VARIABLE,
    STRATEGY_VARIABLE,
    environment_settings,
    recording_place,
    refuse_not_read,
)
from bidkv.errors import BidKVError


def register() -> None:
    """The entry point. Exits with code 2 if `BIDKV_STRATEGY` names no strategy, `BIDKV_RECORD` no place, or a variable is not known."""
    before = ""
    try:
        refuse_unknown()
        refuse_not_read()
        if not os.environ.get(STRATEGY_VARIABLE):
            _refuse_record_alone()
            return
        before = f"{STRATEGY_VARIABLE}: "
        environment_settings().build()
        before = f"{RECORD_VARIABLE}: "
        place = recording_place(None)
        if place is not None:
            place.prepare()
    except BidKVError as error:
        print(f"error: {before}{error}", file=sys.stderr)
        sys.exit(2)

    show_meters()
    from vllm.config import SchedulerConfig, VllmConfig

    stock = SchedulerConfig.get_scheduler_cls
    if getattr(stock, "chosen_by_bidkv", False):
        return

    def get_scheduler_cls(self: SchedulerConfig) -> Any:
        if self.scheduler_cls is not None:
            refuse_other(self.scheduler_cls)
            return stock(self)
        # Imported here: the scheduler pulls in the whole engine, and most processes never ask for it.
        from bidkv.adapters.vllm.scheduler import create_scheduler

        return create_scheduler

    get_scheduler_cls.chosen_by_bidkv = True
    SchedulerConfig.get_scheduler_cls = get_scheduler_cls
    check = VllmConfig.__post_init__

    def __post_init__(self: VllmConfig) -> None:  # here vLLM, too, chooses a scheduler for some models
        check(self)
        refuse_other(self.scheduler_config.scheduler_cls)

    VllmConfig.__post_init__ = __post_init__


def _refuse_record_alone() -> None:
    """Nothing is recorded by a scheduler that is not ours."""
    folder = os.environ.get(RECORD_VARIABLE)
    if folder:
        print(
            f"error: {RECORD_VARIABLE}={folder} has no effect without {STRATEGY_VARIABLE}: set "
            f"{STRATEGY_VARIABLE}=stock to record vLLM as it is",
            file=sys.stderr,
        )
        sys.exit(2)


def refuse_other(scheduler_cls: Any) -> None:
    """Exits with code 2 if an engine has another scheduler than ours, so that the strategy would have no effect."""
    if scheduler_cls is None or _is_ours(scheduler_cls):
        return
    print(
        f"error: {STRATEGY_VARIABLE}={os.environ.get(STRATEGY_VARIABLE)} has no effect with the scheduler_cls "
        f"{scheduler_cls!r}: leave out one of the two",
        file=sys.stderr,
    )
    sys.exit(2)


def _is_ours(scheduler_cls: Any) -> bool:
    """Whether it is our scheduler or made from it, as the simulator's is."""
    if isinstance(scheduler_cls, str):
        return scheduler_cls.startswith("bidkv.")
    makers = scheduler_cls.__mro__ if isinstance(scheduler_cls, type) else (scheduler_cls,)
    return any(str(getattr(maker, "__module__", "")).startswith("bidkv.") for maker in makers)
