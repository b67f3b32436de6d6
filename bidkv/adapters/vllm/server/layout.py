"""What the adapter needs of vLLM's scheduler, checked when an engine starts.

A vLLM without these names, or one that reads its policy elsewhere when it preempts, stops here instead
of running a strategy that decides nothing.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

from bidkv.adapters.shared.layout import UnknownLayoutError, missing_names, warn_untested, wrong_parameters

TESTED = ("0.26.0", "0.32.0", "0.33.0")
"""Versions whose schedulers passed the adapter's tests (`make test-versions`). Another one with this layout runs with a warning."""

EXTENDED = {
    "add_request": ("self", "request"),
    "schedule": ("self",),
    "update_from_output": ("self", "scheduler_output", "model_runner_output"),
    "_preempt_request": ("self", "request"),
    "_free_request": ("self", "request"),
    "_enqueue_waiting_request": ("self", "request"),
    "reset_prefix_cache": ("self",),
    "shutdown": ("self",),
}
"""Methods of `Scheduler` that the adapter extends and the names of their first parameters."""

READ = {
    "Scheduler": (
        "requests",
        "running",
        "waiting",
        "policy",
        "max_num_running_reqs",
        "max_num_scheduled_tokens",
        "get_request_counts",
        "num_waiting_for_streaming_input",
        "scheduler_reserve_full_isl",
        "num_lookahead_tokens",
        "num_spec_tokens",
        "lora_config",
        "defer_block_free",
        "is_encoder_decoder",
    ),
    "KVCacheManager": (
        "allocate_slots",
        "empty_kv_cache_blocks",
        "max_model_len",
        "free",
        "evict_blocks",
        "enable_caching",
        "block_pool",
        "coordinator",
    ),
    "BlockPool": (
        "num_gpu_blocks",
        "get_num_free_blocks",
        "get_cached_block",
        "touch",
        "free_blocks",
        "free_block_queue",
        "get_new_blocks",
    ),
    "KVCacheCoordinator": ("single_type_managers", "find_longest_cache_hit", "get_num_blocks_to_allocate"),
}
"""Further names that the adapter reads or calls, by owner."""

CONDITION = "self.policy == SchedulingPolicy.PRIORITY"
VICTIM = "max(self.running, key=lambda r: (r.priority, r.arrival_time))"


@cache
def check_class(scheduler: type, version: str) -> None:
    """Raises `UnknownLayoutError` if vLLM's scheduler class is not the one the adapter extends.

    Warns once, at the first engine of a process, about a version that looks alike but is not in `TESTED`.
    """
    problems = []
    for name, first in EXTENDED.items():
        problems += wrong_parameters(scheduler, "Scheduler", name, first)
    if hasattr(scheduler, "schedule"):
        problems += branch_problems(source_of(scheduler.schedule))
    if problems:
        raise unknown(problems, version)
    warn_untested("vllm", version, TESTED)


def check_scheduler(scheduler: Any, version: str) -> None:
    """Raises `UnknownLayoutError` if a scheduler, its KV cache manager or its block pool lacks a name."""
    problems = missing_names(scheduler, "Scheduler", READ["Scheduler"])
    manager = scheduler.kv_cache_manager
    problems += missing_names(manager, "KVCacheManager", READ["KVCacheManager"])
    pool = getattr(manager, "block_pool", None)
    problems += missing_names(pool, "BlockPool", READ["BlockPool"])
    coordinator = getattr(manager, "coordinator", None)
    problems += missing_names(coordinator, "KVCacheCoordinator", READ["KVCacheCoordinator"])
    groups = getattr(coordinator, "single_type_managers", None)
    if not groups or not all(hasattr(group, "req_to_blocks") for group in groups):
        problems.append("KVCacheManager.coordinator.single_type_managers[].req_to_blocks is missing")
    if problems:
        raise unknown(problems, version)


NOT_FOLLOWED = {
    "the scheduling policy 'priority'; use the strategy 'priority' instead": lambda s: (
        s.policy.value != "fcfs"
    ),
    "encoder-decoder models": lambda s: s.is_encoder_decoder,
    "diffusion models": lambda s: getattr(s.vllm_config.model_config, "is_diffusion", False),
    "KV cache in host memory by HiSparse": lambda s: (
        getattr(s.kv_cache_config, "hisparse_host_num_blocks", None) is not None
    ),
    "prefix hits whose last window is computed again": lambda s: getattr(s, "prefix_replay_tokens", 0) > 0,
}
"""What a scheduler may be told that the adapter does not follow, and how it is seen. The rest is vLLM's own to decide:
docs/engines.md has the list, with the test of each."""


def check_followed(scheduler: Any) -> None:
    """Raises `UnknownLayoutError` in one line on what is not followed."""
    found = [name for name, here in NOT_FOLLOWED.items() if here(scheduler)]
    if found:
        raise UnknownLayoutError(f"bidkv does not follow vLLM with {'; '.join(found)}")


def unknown(problems: list[str], version: str) -> UnknownLayoutError:
    return UnknownLayoutError(
        f"bidkv does not know the layout of vllm {version} (tested: {', '.join(TESTED)}): {'; '.join(problems)}"
    )


def source_of(function: Any) -> ast.AST:
    """The syntax tree of a method; raises `UnknownLayoutError` where there is no source to look at."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except OSError as error:
        raise UnknownLayoutError(
            f"bidkv cannot read the source of {function.__qualname__}: {error}"
        ) from error


def branch_problems(schedule: ast.AST) -> list[str]:
    """What is wrong with the branch of `schedule()` through which a victim reaches vLLM."""
    loops = [n for n in ast.walk(schedule) if isinstance(n, ast.While) and _preempts(n)]
    if not loops:
        return ["Scheduler.schedule has no loop that allocates and preempts"]
    loop = min(loops, key=lambda n: sum(1 for _ in ast.walk(n)))  # the innermost one
    problems = []
    tests = {ast.unparse(n.test) for n in ast.walk(loop) if isinstance(n, ast.If) and reads_policy(n.test)}
    if tests != {CONDITION}:
        problems.append(f"its preemption loop asks {sorted(tests)}, not {CONDITION!r}")
    if VICTIM not in {ast.unparse(n) for n in ast.walk(loop) if isinstance(n, ast.Call)}:
        problems.append(f"its preemption loop does not take {VICTIM!r}")
    return [f"Scheduler.schedule: {problem}" for problem in problems]


def reads_policy(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Attribute) and ast.unparse(n) == "self.policy" for n in ast.walk(node))


def _preempts(loop: ast.While) -> bool:
    called = {n.func.attr for n in ast.walk(loop) if isinstance(n, ast.Call) and hasattr(n.func, "attr")}
    return {"allocate_slots", "_preempt_request"} <= called
