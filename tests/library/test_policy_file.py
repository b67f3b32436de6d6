"""A policy in a file, by the name `file.py:Class`: found everywhere a name is, and one line on what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidkv import RequestState, create_default_registry
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError
from bidkv.policy_file import absolute, is_reference, load_policy

CODE = """
from __future__ import annotations

from dataclasses import dataclass

from bidkv import ScoredVictim, Strategy
from bidkv.admission.sjf import Sjf


@dataclass
class Helper:
    weight: float


class Shortest(ScoredVictim):
    name, source = "shortest", "test"

    def __init__(self, weight: float = 1.0):
        self.helper = Helper(weight)

    def score(self, request, now):
        return -request.prompt_tokens * self.helper.weight


class Both(Strategy):
    name, admission_class, victim_class = "both", Sjf, Shortest


class Nameless(ScoredVictim):
    def score(self, request, now):
        return 0


class Unfinished(ScoredVictim):
    name, source = "unfinished", "test"


class Stranger:
    name = "stranger"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_a_victim_from_a_file_decides_with_its_parameters(file: Path) -> None:
    settings = AdapterSettings("anything", "fcfs", f"{file}:Shortest", {"weight": -1.0})
    running = [RequestState("a", 5, 5), RequestState("b", 9, 9), RequestState("c", 7, 7)]
    assert settings.build().victim.select(running, 0.0).request_id == "b"
    assert AdapterSettings("x", "fcfs", f"{file}:Shortest").build().victim.select(running, 0.0) is running[0]


def test_a_strategy_from_a_file_gives_either_half(file: Path) -> None:
    registry = create_default_registry()
    assert (registry.get(f"{file}:Both").admission.name, registry.get(f"{file}:Both").name) == ("sjf", "both")
    halves = registry.pair("fcfs", f"{file}:Both"), registry.pair(f"{file}:Both", "lifo")
    assert [(h.admission.name, h.victim.name) for h in halves] == [("fcfs", "shortest"), ("sjf", "lifo")]


def test_a_change_of_the_file_is_seen(file: Path) -> None:
    assert load_policy(f"{file}:Shortest").name == "shortest"
    file.write_text(CODE.replace('"shortest"', '"other"'))
    assert load_policy(f"{file}:Shortest").name == "other"


def test_which_names_are_files() -> None:
    assert (
        is_reference("mine.py:Shortest") and absolute("mine.py:Shortest") == f"{Path.cwd()}/mine.py:Shortest"
    )
    assert not any(map(is_reference, ("lcf-guard", "mine.py", "bidkv2")))


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (None, "X", ["no such file", "mine.py"]),
        ("import no_such_thing", "X", ["line 1", "ModuleNotFoundError", "no_such_thing"]),
        ("x = 1\nclass", "X", ["line 2", "SyntaxError"]),
        (CODE, "Shortestt", ["no class 'Shortestt'", "Shortest, Both"]),
        (CODE, "Stranger", ["must be a subclass of", "VictimPolicy"]),
        (CODE, "Nameless", ["lacks name"]),
        (CODE, "Unfinished", ["lacks score()"]),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str | None, name: str, words: list[str]) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BidValidationError) as raised:
        load_policy(f"{path}:{name}")
    message = str(raised.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_a_half_of_the_wrong_kind_is_refused(file: Path) -> None:
    with pytest.raises(BidValidationError, match="must be of the kind AdmissionPolicy"):
        create_default_registry().pair(f"{file}:Shortest", "lifo")
