"""What the adapter needs of SGLang's internals, checked by name before anything is hooked.

A version without these names stops here, with all of them listed,
instead of running with half of the hooks.
"""

from __future__ import annotations

from typing import Any

from bidkv.adapters.shared.layout import UnknownLayoutError, missing_names, warn_untested, wrong_parameters

TESTED = ("0.5.17", "0.5.23")
"""Versions that passed the adapter's tests (0.5.23) or ran whole sweeps on a GPU (0.5.17). Another one with this layout runs with a warning."""

SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
BATCH = "sglang.srt.managers.schedule_batch.ScheduleBatch"
REQUEST = "sglang.srt.managers.schedule_batch.Req"
POLICY = "sglang.srt.managers.schedule_policy.SchedulePolicy"

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
    f"{REQUEST}.update_finish_state": ("self",),
    f"{REQUEST}._check_token_based_finish": ("self",),
}
"""Hooked functions and the names of their first parameters."""

OPTIONAL = {f"{REQUEST}.next_output_finishes_by_length": ("self",)}
"""Hooked where it exists (0.5.23): lets overlap scheduling skip the step after a request's last token."""

READ = {
    BATCH: ("new_tokens_required_next_decode", "check_decode_mem", "filter_batch"),
    REQUEST: ("finished", "reset_for_retract"),
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
    """Raises `UnknownLayoutError` if the engine runs in a mode whose memory the adapter cannot count."""
    args, tree = scheduler.server_args, scheduler.tree_cache
    refused = {
        "tp_size > 1": args.tp_size > 1,
        "pp_size > 1": args.pp_size > 1,
        "dp_size > 1": args.dp_size > 1,
        "speculative decoding": not scheduler.spec_algorithm.is_none(),
        "prefill/decode disaggregation": scheduler.disaggregation_mode.value != "null",
        "diffusion models": scheduler.dllm_config is not None,
        "models with sliding-window layers": tree.supports_swa(),
        "models with state-space layers": tree.supports_mamba(),
    }
    found = [name for name, here in refused.items() if here]
    if found:
        raise UnknownLayoutError(f"the SGLang adapter of bidkv does not support {', '.join(found)}")
    for owner, name in ((tree, "evictable_size"), (scheduler.token_to_kv_pool_allocator, "available_size")):
        if not hasattr(owner, name):
            raise UnknownLayoutError(f"{type(owner).__name__}.{name} is missing")


def kv_field(req: Any, name: str) -> Any:
    """A number SGLang keeps on `req.kv` (0.5.23) or on the request itself (0.5.17)."""
    return getattr(req.kv, name) if hasattr(req.kv, name) else getattr(req, name)


def holds_kv(req: Any) -> bool:
    """Whether the request owns a row of the request-to-token table."""
    return req.kv is not None and kv_field(req, "req_pool_idx") is not None
