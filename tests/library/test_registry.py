from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bidkv
from bidkv import BaselineRegistry, BidKVStrategy, BidValidationError, PreemptEvictStrategy

MINE = {
    "victim": """
from bidkv.victim.base import ScoredVictim

class Oldest(ScoredVictim):
    name, source = "oldest", "a test"
    def score(self, request, now):
        return -request.arrival
""",
    "admission": """
from bidkv.admission.sjf import Sjf

class Lonely(Sjf):
    name = "lonely"
""",
    "retention": """
from bidkv.retention.base import Retention

class Newest(Retention):
    name, source = "newest", "a test"
    def keep_order(self, idle, now):
        return sorted(idle, key=lambda owner: -owner.used)
""",
    "strategies": """
from bidkv.admission.fcfs import Fcfs
from bidkv.strategies.base import Strategy
from bidkv.victim.mine import Oldest

class OldestStrategy(Strategy):
    name, admission_class, victim_class = "oldest-first", Fcfs, Oldest
""",
}


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
    for wing, text in MINE.items():
        (tmp_path / "bidkv" / wing / "mine.py").write_text(text)
    code = (
        "import bidkv; registry = bidkv.create_default_registry(); print(registry.get('oldest-first'),"
        " registry.pair('lonely', 'oldest', 'newest'), bidkv.strategies.OldestStrategy.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path, env={}
    )
    assert done.stdout.split() == [
        "OldestStrategy(fcfs+oldest)",
        "PairedStrategy(lonely+oldest+newest)",
        "OldestStrategy",
    ], done.stderr
