"""The adapter stands on how `Scheduler.schedule` uses `self.policy`. A new vLLM must fail here first."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import textwrap
from types import SimpleNamespace

import pytest

from bidkv.adapters.vllm.server import layout

pytest.importorskip("vllm", reason="vLLM is not installed")
scheduler = importlib.import_module("vllm.v1.core.sched.scheduler")


@pytest.fixture(scope="module")
def methods() -> dict[str, ast.FunctionDef]:
    (cls,) = ast.parse(textwrap.dedent(inspect.getsource(scheduler.Scheduler))).body
    assert isinstance(cls, ast.ClassDef)
    return {n.name: n for n in cls.body if isinstance(n, ast.FunctionDef)}


def test_this_vllm_has_the_layout(caplog: pytest.LogCaptureFixture) -> None:
    layout.check_class.cache_clear()
    with caplog.at_level(logging.WARNING):
        layout.check_class(scheduler.Scheduler, layout.TESTED[-1] + "+cpu")
        assert not caplog.records
        for _ in range(3):
            layout.check_class(scheduler.Scheduler, "9.9.9")
    (record,) = caplog.records
    assert "vllm 9.9.9 is untested" in record.getMessage()


def test_the_policy_is_read_nowhere_unexpected(methods: dict[str, ast.FunctionDef]) -> None:
    """Outside the preemption our scheduler shows vLLM's own policy, so known reads there do no harm.

    A read in a new place may mean that vLLM chooses victims elsewhere: look before adding it.
    """
    known_outside = {"__init__", "schedule", "_select_waiting_queue_for_scheduling"}
    readers = {name for name, node in methods.items() if layout.reads_policy(node)}
    assert readers <= known_outside, f"new readers of self.policy: {readers - known_outside}"
    assert not [name for name in methods if name.startswith("_bidkv_")]


def changed(old: str, new: str) -> list[str]:
    """The problems of this vLLM's `schedule` after a change of its text."""
    source = textwrap.dedent(inspect.getsource(scheduler.Scheduler.schedule))
    assert old in source
    return layout.branch_problems(ast.parse(source.replace(old, new)))


def test_a_branch_that_drifted_is_refused() -> None:
    assert changed("schedule", "schedule") == []
    assert "no loop" in changed("self._preempt_request(", "self._evict(")[0]
    assert "does not take" in changed("(r.priority, r.arrival_time)", "(r.arrival_time, r.priority)")[0]
    assert "asks" in changed("self.policy == SchedulingPolicy.PRIORITY", "self.policy.by_priority")[0]


def test_a_scheduler_without_the_names_is_refused_in_one_line() -> None:
    class Renamed:
        def add_request(self, request: object) -> None: ...
        def schedule(self) -> None: ...
        def update_from_output(self, output: object) -> None: ...
        def shutdown(self) -> None: ...

    with pytest.raises(layout.UnknownLayoutError) as caught:
        layout.check_class(Renamed, "7.0")
    text = str(caught.value)
    assert "\n" not in text and "vllm 7.0 (tested: 0.26.0" in text
    assert "Scheduler._preempt_request is missing" in text
    assert (
        "Scheduler.update_from_output does not take self, scheduler_output, model_runner_output first" in text
    )
    assert "no loop that allocates and preempts" in text

    manager = SimpleNamespace(allocate_slots=1, enable_caching=True, coordinator=None, block_pool=None)
    bare = SimpleNamespace(kv_cache_manager=manager, running=[], waiting=[], requests={}, policy=1)
    with pytest.raises(layout.UnknownLayoutError, match="evict_blocks is missing.*req_to_blocks is missing"):
        layout.check_scheduler(bare, "7.0")
