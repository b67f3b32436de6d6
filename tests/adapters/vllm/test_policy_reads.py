"""The adapter stands on how `Scheduler.schedule` uses `self.policy`. A new vLLM must fail here first."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("vllm", reason="vLLM is not installed")
scheduler = importlib.import_module("vllm.v1.core.sched.scheduler")


def calls(node: ast.AST, name: str) -> bool:
    """Whether a call of `….name(…)` is in `node`."""
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == name
        for n in ast.walk(node)
    )


def policy_reads(node: ast.AST) -> list[ast.Attribute]:
    return [
        n
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute)
        and n.attr == "policy"
        and isinstance(n.value, ast.Name)
        and n.value.id == "self"
        and isinstance(n.ctx, ast.Load)
    ]


def preemption_loop(function: ast.FunctionDef) -> ast.While:
    """The innermost loop that allocates and preempts: a mark must be read there and nowhere else."""
    loops = [
        n
        for n in ast.walk(function)
        if isinstance(n, ast.While) and calls(n, "allocate_slots") and calls(n, "_preempt_request")
    ]
    assert loops, "schedule() has no loop that allocates and preempts any more"
    return min(loops, key=lambda loop: len(list(ast.walk(loop))))


@pytest.fixture(scope="module")
def methods() -> dict[str, ast.FunctionDef]:
    (cls,) = ast.parse(textwrap.dedent(inspect.getsource(scheduler.Scheduler))).body
    assert isinstance(cls, ast.ClassDef)
    return {n.name: n for n in cls.body if isinstance(n, ast.FunctionDef)}


def test_the_policy_is_read_where_a_victim_is_preempted(methods: dict[str, ast.FunctionDef]) -> None:
    loop = preemption_loop(methods["schedule"])
    tests = [n.test for n in ast.walk(loop) if isinstance(n, ast.If) and policy_reads(n.test)]
    assert 1 <= len(tests) <= 2, "0.26 asks once, 0.32 twice"
    assert {ast.unparse(t) for t in tests} == {"self.policy == SchedulingPolicy.PRIORITY"}
    assert len(policy_reads(loop)) == len(tests)


def test_the_policy_is_read_nowhere_unexpected(methods: dict[str, ast.FunctionDef]) -> None:
    """Outside the loop our scheduler shows vLLM's own policy, so known reads there do no harm.

    A read in a new place may mean that vLLM chooses victims elsewhere: look before adding it.
    """
    known_outside = {"__init__", "schedule", "_select_waiting_queue_for_scheduling"}
    inside = preemption_loop(methods["schedule"])
    readers = {name for name, node in methods.items() if policy_reads(node)}
    assert readers <= known_outside, f"new readers of self.policy: {readers - known_outside}"
    outside = len(policy_reads(methods["schedule"])) - len(policy_reads(inside))
    assert outside <= 1, "0.26 makes a queue of skipped requests with it; 0.32 does not"


def test_the_victim_is_the_largest_priority_of_all_running(methods: dict[str, ast.FunctionDef]) -> None:
    choices = [
        ast.unparse(n)
        for n in ast.walk(preemption_loop(methods["schedule"]))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "max"
    ]
    assert choices == ["max(self.running, key=lambda r: (r.priority, r.arrival_time))"]


def test_the_methods_we_extend_exist(methods: dict[str, ast.FunctionDef]) -> None:
    extended = {"add_request", "schedule", "update_from_output", "shutdown"}
    assert extended | {"_preempt_request", "_free_request"} <= set(methods)
    assert not [name for name in methods if name.startswith("_bidkv_")]
