"""Entry point of SGLang's plugin group: hooks the scheduler if the environment asks for it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bidkv.adapters.sglang.configure import (
    is_asked_for,
    read_configuration,
    recording_place,
    refuse_alone,
)
from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.shared.variables import refuse_unknown
from bidkv.errors import BidKVError

if TYPE_CHECKING:
    from bidkv.adapters.sglang.adapter import SGLangAdapter


def register() -> None:
    """Called by SGLang in each of its processes. Inert without a strategy or a control file; then another variable of
    bidkv's would have no effect, and ends the process.

    SGLang only logs what a plugin raises and goes on in its own order, which would pass for the
    strategy's. So an adapter that cannot work ends the process instead.
    """
    try:
        refuse_unknown()
        if not is_asked_for():
            refuse_alone()
            return
        settings, control = read_configuration()
    except BidKVError as error:
        print(f"bidkv: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    try:
        hook(settings, control, recording_place())
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(f"bidkv: {error}") from error


def hook(
    settings: AdapterSettings, control: ControlFile | None, record: RecordingPlace | None = None
) -> SGLangAdapter:
    """A new adapter with all its hooks registered; raises `UnknownLayoutError` before the first one."""
    targets = known_targets()
    from bidkv.adapters.sglang.adapter import SGLangAdapter

    adapter = SGLangAdapter(settings, control, record=record)
    exact_lengths = settings.client_facts or (control is not None and control.trusted)
    register_hooks(targets, adapter, exact_lengths)
    return adapter


def known_targets() -> tuple[str, ...]:
    """What is hooked of the SGLang that is installed; raises `UnknownLayoutError` where it has another layout."""
    import sglang
    from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
    from sglang.srt.managers.schedule_policy import PrefillAdder, SchedulePolicy
    from sglang.srt.managers.scheduler import Scheduler
    from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver

    from bidkv.adapters.sglang import layout

    classes = {
        layout.SCHEDULER: Scheduler,
        layout.BATCH: ScheduleBatch,
        layout.REQUEST: Req,
        layout.POLICY: SchedulePolicy,
        layout.ADDER: PrefillAdder,
        layout.RECEIVER: SchedulerRequestReceiver,
    }
    return layout.check_classes(classes, sglang.__version__)


def register_hooks(targets: Iterable[str], adapter: Any, exact_lengths: bool) -> None:
    """Each target goes through the method of `adapter` that has its name. Without `exact_lengths` no client can ask for
    one, and each token of each request would go through hooks in vain."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from bidkv.adapters.sglang.layout import LENGTHS

    for target in targets:
        if exact_lengths or target not in LENGTHS:
            HookRegistry.register(target, getattr(adapter, target.rsplit(".", 1)[1]), HookType.AROUND)
