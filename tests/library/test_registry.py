from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bidkv
from bidkv import BaselineRegistry, BidKVStrategy, BidValidationError, PreemptEvictStrategy

MINE = """
from bidkv.strategies.admission import Fcfs, Sjf
from bidkv.strategies.base import ScoredVictim, Strategy

class Oldest(ScoredVictim):
    name, source = "oldest", "a test"
    def score(self, request, now):
        return -request.arrival

class OldestStrategy(Strategy):
    name, admission_class, victim_class = "oldest-first", Fcfs, Oldest

class Lonely(Sjf):
    name = "lonely"
"""


def test_the_default_registry_is_filled_in_place_or_made() -> None:
    registry = BaselineRegistry()
    assert registry.create_default_registry() is registry
    assert registry.list_strategies() == bidkv.create_default_registry().list_strategies()
    assert {"bidkv", "preempt-evict", "lcf-guard"} < set(registry.list_strategies())


def test_instances_and_classes_are_registered_alike() -> None:
    registry = BaselineRegistry()
    registry.register(BidKVStrategy(completion_weight=2.0))
    registry.register(PreemptEvictStrategy)
    assert registry.list_strategies() == ["bidkv", "preempt-evict"]
    first, second = registry.get("bidkv"), registry.get("bidkv")
    assert first.name == "bidkv" and first.victim is not second.victim
    assert first.victim.completion_weight == second.victim.completion_weight == 2.0
    assert registry.get("bidkv", preemption_weight=0.0).victim.completion_weight != 2.0
    assert registry.pair("fcfs", "bidkv").victim.name == "bidkv"


def test_an_instance_replaces_its_class_and_no_other() -> None:
    class Thief(bidkv.LcfStrategy):
        name = "bidkv"

    registry = bidkv.create_default_registry()
    registry.register(BidKVStrategy(completion_weight=2.0))
    assert registry.get("bidkv").victim.completion_weight == 2.0
    with pytest.raises(BidValidationError, match="'bidkv' is taken by BidKVStrategy"):
        registry.register(Thief())
    with pytest.raises(BidValidationError, match="cannot register"):
        registry.register(BidKVStrategy().victim)  # type: ignore[arg-type]


def test_a_file_in_the_folder_is_found(tmp_path: Path) -> None:
    shutil.copytree(
        Path(bidkv.__file__).parent, tmp_path / "bidkv", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "bidkv" / "strategies" / "oldest_first.py").write_text(MINE)
    code = (
        "import bidkv; registry = bidkv.create_default_registry(); print(registry.get('oldest-first'),"
        " registry.pair('lonely', 'oldest'), bidkv.strategies.OldestStrategy.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path, env={}
    )
    assert done.stdout.split() == [
        "OldestStrategy(fcfs+oldest)",
        "PairedStrategy(lonely+oldest)",
        "OldestStrategy",
    ], done.stderr
