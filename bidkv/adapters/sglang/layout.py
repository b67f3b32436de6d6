"""What the adapter needs of SGLang's internals, checked by name before anything is hooked.

A version without these names stops here, with all of them listed,
instead of running with half of the hooks.
"""

from __future__ import annotations

import inspect
from typing import Any

from bidkv.adapters.shared.layout import UnknownLayoutError, missing_names, warn_untested, wrong_parameters
from bidkv.admission.engine_order import EngineOrder
from bidkv.errors import BidValidationError
from bidkv.strategies.base import Strategy

TESTED = ("0.5.17", "0.5.23")
"""Versions that passed the adapter's tests (0.5.23) or ran whole sweeps on a GPU (0.5.17). Another one with this layout runs with a warning."""

SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
BATCH = "sglang.srt.managers.schedule_batch.ScheduleBatch"
REQUEST = "sglang.srt.managers.schedule_batch.Req"
POLICY = "sglang.srt.managers.schedule_policy.SchedulePolicy"
ADDER = "sglang.srt.managers.schedule_policy.PrefillAdder"
RECEIVER = "sglang.srt.managers.scheduler_components.request_receiver.SchedulerRequestReceiver"

HOOKED = {
    f"{SCHEDULER}.get_next_batch_to_run": ("self",),
    f"{SCHEDULER}.run_batch": ("self", "batch"),
    f"{SCHEDULER}.process_batch_result": ("self", "batch", "result"),
    f"{SCHEDULER}._add_request_to_queue": ("self", "req", "is_retracted"),
    f"{SCHEDULER}.abort_request": ("self", "recv_req"),
    f"{SCHEDULER}.process_pending_chunked_abort": ("self",),
    f"{BATCH}.retract_decode": ("self",),
    f"{BATCH}._get_decode_retraction_order": ("reqs",),
    f"{BATCH}.release_req": ("self", "idx"),
    f"{POLICY}.calc_priority": ("self", "waiting_queue"),
    f"{ADDER}.add_one_req": ("self", "req"),
    f"{RECEIVER}._pull_raw_reqs": ("self",),
    f"{RECEIVER}.recv_requests": ("self",),
    f"{REQUEST}.init_next_round_input": ("self", "tree_cache"),
    f"{REQUEST}.update_finish_state": ("self",),
    f"{REQUEST}._check_token_based_finish": ("self",),
}
"""Hooked functions and the names of their first parameters."""

OPTIONAL = {f"{REQUEST}.next_output_finishes_by_length": ("self",)}
"""Hooked where it exists (0.5.23): lets overlap scheduling skip the step after a request's last token."""

LENGTHS = (
    f"{REQUEST}.update_finish_state",
    f"{REQUEST}._check_token_based_finish",
    f"{REQUEST}.next_output_finishes_by_length",
)
"""Hooked only where a client may declare `true_output_tokens`, which ends its output."""

READ = {
    BATCH: ("new_tokens_required_next_decode", "check_decode_mem", "filter_batch"),
    REQUEST: ("finished", "reset_for_retract"),
    ADDER: ("_lock_node", "ceil_paged_tokens", "cur_rem_tokens", "rem_total_tokens"),
}
"""Further names that the adapter calls or whose effect it relies on."""


def check_classes(classes: dict[str, type], version: str) -> tuple[str, ...]:
    """The targets to hook, out of `classes` by dotted path. Raises `UnknownLayoutError`."""
    problems = []
    for target, first in HOOKED.items():
        owner, name = target.rsplit(".", 1)
        problems += wrong_parameters(classes[owner], owner, name, first)
    for owner, names in READ.items():
        problems += missing_names(classes[owner], owner, names)
    if problems:
        raise UnknownLayoutError(
            f"bidkv does not know the layout of sglang {version} (tested: {', '.join(TESTED)}): "
            f"{'; '.join(problems)}"
        )
    warn_untested("sglang", version, TESTED)
    present = [t for t in OPTIONAL if hasattr(classes[t.rsplit(".", 1)[0]], t.rsplit(".", 1)[1])]
    return (*HOOKED, *present)


def check_scheduler(scheduler: Any) -> None:
    """Raises `UnknownLayoutError` if the engine runs in a mode whose memory or decisions the adapter cannot follow."""
    args, tree = scheduler.server_args, scheduler.tree_cache
    refused = {
        "pp_size > 1": args.pp_size > 1,
        "attention data parallelism (--enable-dp-attention)": args.enable_dp_attention,
        "attention context parallelism (attn_cp_size > 1)": getattr(args, "attn_cp_size", 1) > 1,
        "speculative decoding": not scheduler.spec_algorithm.is_none(),
        "prefill/decode disaggregation": scheduler.disaggregation_mode.value != "null",
        "prefill/decode multiplexing (--enable-pdmux)": getattr(args, "enable_pdmux", False),
        "diffusion models": scheduler.dllm_config is not None,
        "models with sliding-window layers": tree.supports_swa(),
        "models with state-space layers": tree.supports_mamba(),
        "sparse attention on host memory (--enable-hisparse)": getattr(args, "enable_hisparse", False),
    }
    found = [name for name, here in refused.items() if here]
    if found:
        raise UnknownLayoutError(f"the SGLang adapter of bidkv does not support {', '.join(found)}")
    for owner, name in ((tree, "evictable_size"), (scheduler.token_to_kv_pool_allocator, "available_size")):
        if not hasattr(owner, name):
            raise UnknownLayoutError(f"{type(owner).__name__}.{name} is missing")


def check_flags(scheduler: Any, strategy: Strategy) -> None:
    """Raises `BidValidationError` if a flag of SGLang's would have no effect under this strategy."""
    args, admission = scheduler.server_args, strategy.admission.name
    if args.retraction_policy != "length":
        raise BidValidationError(
            f"--retraction-policy {args.retraction_policy} has no effect: strategy {strategy.name!r} chooses whom "
            "SGLang retracts; leave it out"
        )
    if isinstance(strategy.admission, EngineOrder):
        return
    cure = "leave it out, or take a strategy with the admission 'engine-order', such as sglang_default"
    if args.schedule_policy != "fcfs":
        raise BidValidationError(
            f"--schedule-policy {args.schedule_policy} has no effect: the admission {admission!r} orders who waits; {cure}"
        )
    if args.enable_priority_scheduling:
        raise BidValidationError(
            f"--enable-priority-scheduling has no effect: the admission {admission!r} orders who waits; {cure}, or the "
            "strategy 'priority'"
        )


def release_arguments(scheduler: Any) -> tuple[Any, ...]:
    """What `ScheduleBatch.release_req` takes beyond the index and how many are left: SGLang's arguments in 0.5.17."""
    from sglang.srt.managers.schedule_batch import ScheduleBatch

    parameters = inspect.signature(ScheduleBatch.release_req).parameters
    return (scheduler.server_args,) if "server_args" in parameters else ()


def tp_rank(scheduler: Any) -> int:
    """The place of this process among those that run one model together."""
    return _placement(scheduler).tp_rank


def rank_name(scheduler: Any) -> str | None:
    """Which of several engines behind one server this is, dp0 and so on; None if it is the only one."""
    return f"dp{_placement(scheduler).dp_rank}" if scheduler.server_args.dp_size > 1 else None


def _placement(scheduler: Any) -> Any:
    """Where SGLang keeps ranks: on the scheduler (0.5.17), or in the context of the process (0.5.23)."""
    if hasattr(scheduler, "ps"):
        return scheduler.ps
    from sglang.srt.runtime_context import get_parallel

    return get_parallel()


def low_priority_first(scheduler: Any) -> bool:
    """Whether a smaller priority of a request is the more important one. SGLang's default is the larger."""
    return bool(scheduler.server_args.schedule_low_priority_values_first)


def kv_field(req: Any, name: str) -> Any:
    """A number SGLang keeps on `req.kv` (0.5.23) or on the request itself (0.5.17)."""
    return getattr(req.kv, name) if hasattr(req.kv, name) else getattr(req, name)


def holds_kv(req: Any) -> bool:
    """Whether the request owns a row of the request-to-token table."""
    return req.kv is not None and kv_field(req, "req_pool_idx") is not None
