"""What strategies and policies say of themselves, for people: taken from their docstrings."""

from __future__ import annotations

import inspect
import sys
import textwrap

from bidkv.policy import Policy
from bidkv.registry import create_default_registry
from bidkv.strategies.base import Strategy


def summary(strategy: type[Strategy]) -> str:
    """The first paragraph of the strategy's docstring, or else of its file's: its idea."""
    return _paragraph(strategy.__dict__.get("__doc__") or sys.modules[strategy.__module__].__doc__ or "")


def rule(policy: type[Policy]) -> str:
    """The first paragraph of the policy's own docstring, which is its formula; empty if it has none."""
    return _paragraph(policy.__dict__.get("__doc__") or "")


def server_strategies(width: int = 110) -> str:
    """A table of what a server can run, for a command's help. Oracles are none: no server knows what they ask."""
    registry = create_default_registry()
    lines = []
    for name in registry.list_strategies():
        strategy = registry.get(name)
        if not strategy.oracle:
            pair = f"{strategy.admission.name} + {strategy.victim.name}"
            text = f"  {name:<18} {summary(type(strategy))} ({pair})"
            lines.append(textwrap.fill(text, width, subsequent_indent=" " * 21))
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
