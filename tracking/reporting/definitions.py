"""What each strategy of a sweep is: its two policies, their parameters, and where the rule comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bidkv import create_default_registry
from bidkv.errors import UnknownNameError
from bidkv.retention.lru import Lru
from tracking.reporting.page import Grid, Section
from tracking.store.reader import StoredRun

HEADER = ("strategy", "admission", "victim", "parameters and settings", "source")
PARAMETERS = (
    "strategy.params.",
    "strategy.admission_params.",
    "strategy.retention_params.",
    "strategy.engine.",
)
DEFAULTS = "defaults"


def strategies_section(runs: Mapping[str, Sequence[StoredRun]]) -> Section:
    """A row a strategy, as its first run was configured."""
    rows = [[name, *_definition(some[0].params)] for name, some in runs.items()]
    caption = "admission: who of the waiting runs first; victim: who of the running is preempted."
    return Section("Strategies", [Grid(HEADER, rows, caption)])


def _definition(params: Mapping[str, str]) -> list[str]:
    admission, victim = (params.get(f"strategy.{key}", "-") for key in ("admission", "victim"))
    settings = [
        f"{key.removeprefix('strategy.').removeprefix('params.')}={value}"
        for key, value in sorted(params.items())
        if key.startswith(PARAMETERS)
    ]
    if params.get("strategy.kill_switch") == "True":
        settings.insert(0, "the engine's own decisions")
    retention = params.get("strategy.retention", Lru.name)
    axes = [("admission", admission), ("victim", victim)]
    if retention != Lru.name:
        settings.insert(0, f"retention={retention}")
        axes.append(("retention", retention))
    sources = dict.fromkeys(source for axis in axes if (source := _source(*axis)))
    return [admission, victim, ", ".join(settings) or DEFAULTS, "; ".join(sources) or "-"]


def _source(kind: str, name: str) -> str | None:
    """None for a policy that is not installed here: the sweep may have run elsewhere."""
    registry = create_default_registry()
    try:
        pair = registry.pair(**{"admission": "fcfs", "victim": "lifo", kind: name})
    except UnknownNameError:
        return None
    return str(getattr(pair, kind).source)
