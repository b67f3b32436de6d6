"""What the vLLM tests share: a tiny model, a load, and strategies of a third party."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.engines.shared.tiny_model import make_tiny_llama

sys.path.insert(0, str(Path(__file__).parent))
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else every engine waits for the same core
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
ROOT = Path(__file__).parents[3]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One server for all tests: it takes half a minute to start. Its tokenizer counts words."""
    from server_process import running_server

    from ray_jobs.engines.shared.tiny_tokenizer import add_tokenizer

    model = make_tiny_llama(tmp_path_factory.mktemp("tiny-words"))
    add_tokenizer(model)
    with running_server(model, tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on `sys.path`, is an installed package with three broken strategies."""
    folder = tmp_path_factory.mktemp("third_party")
    (folder / "broken_strategies.py").write_text(BROKEN)
    info = folder / "broken_strategies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-strategies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[bidkv.strategies]\n"
        "raising = broken_strategies:Raising\n"
        "stranger = broken_strategies:Stranger\n"
        "lost = broken_strategies:Lost\n"
    )
    return folder


BROKEN = """
from bidkv.request import RequestState
from bidkv.admission.fcfs import Fcfs
from bidkv.admission.base import AdmissionPolicy
from bidkv.strategies.base import Strategy
from bidkv.victim.base import VictimPolicy
from bidkv.victim.lifo import Lifo

class RaisingVictim(VictimPolicy):
    name = "raising"
    source = "test"
    def select(self, candidates, now):
        raise ZeroDivisionError("no victim today")

class StrangerVictim(VictimPolicy):
    name = "stranger"
    source = "test"
    def select(self, candidates, now):
        return RequestState("nobody", computed_tokens=1, prompt_tokens=1)

class LostAdmission(AdmissionPolicy):
    name = "lost"
    def key(self, request):
        return (float("nan"),)

class Raising(Strategy):
    name, admission_class, victim_class = "raising", Fcfs, RaisingVictim

class Stranger(Strategy):
    name, admission_class, victim_class = "stranger", Fcfs, StrangerVictim

class Lost(Strategy):
    name, admission_class, victim_class = "lost", LostAdmission, Lifo
"""


def make_load(
    count: int, *, seed: int = 1, shared_prefix: int = 0, longest: int = 220
) -> list[dict[str, Any]]:
    """Requests as `prompt` ids, `output` (at most `longest`) and `declared` tokens; every second one may share a prefix."""
    rng = random.Random(seed)
    prefix = [rng.randrange(3, 2000) for _ in range(shared_prefix)]
    load = []
    for index in range(count):
        prompt = [rng.randrange(3, 2000) for _ in range(rng.randint(longest // 11, longest * 4 // 11))]
        output = rng.randint(longest * 5 // 11, longest)
        load.append(
            {
                "prompt": prefix + prompt if index % 2 else prompt,
                "output": output,
                "declared": output + rng.randint(0, 60),
            }
        )
    return load
