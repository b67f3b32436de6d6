"""Settings and control file: what reaches an engine, and what is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from bidkv.adapters.shared.control import ControlFile, updated_settings, write_control
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError, UnknownNameError
from bidkv.request import RequestState


def test_overrides_replace_one_half_of_the_named_pair() -> None:
    assert str(AdapterSettings("bidkv").build()) == "BidKVStrategy(sjf+bidkv)"
    strategy = AdapterSettings("bidkv", admission="fcfs").build()
    assert (strategy.admission.name, strategy.victim.name) == ("fcfs", "bidkv")
    strategy = AdapterSettings("preempt-evict-sjf", victim="largest").build()
    assert (strategy.admission.name, strategy.victim.name) == ("sjf", "largest")


def test_params_reach_the_victim_and_the_seed_one_that_draws() -> None:
    assert AdapterSettings("bidkv", params={"completion_weight": 2.0}).build().victim.completion_weight == 2.0
    weighted = AdapterSettings("bidkv", admission="fcfs", params={"completion_weight": 2.0}).build()
    assert weighted.victim.completion_weight == 2.0

    candidates = [RequestState(str(i), computed_tokens=1, prompt_tokens=1) for i in range(50)]

    def draws(run_seed: int, **params: Any) -> list[str]:
        victim = AdapterSettings("static-random", seed=run_seed, params=params).build().victim
        return [victim.select(candidates, 0.0).request_id for _ in range(20)]

    assert draws(3) == draws(3) != draws(4)
    assert draws(0, seed=3) == draws(3), "an explicit parameter wins"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stratgy": "bidkv"}, ["unknown key 'stratgy'", "allowed: strategy, admission"]),
        ({"seed": 1}, ["'strategy' is missing"]),
        ({"strategy": 3}, ["strategy must be str", "3"]),
        ({"strategy": "bidkv", "seed": True}, ["seed must be int", "True"]),
        ({"strategy": "bidkv", "params": []}, ["params must be dict"]),
        ({"strategy": "bidkv", "kill_switch": "yes"}, ["kill_switch must be bool", "'yes'"]),
        ({"strategy": "bidkv", "victim": 1}, ["victim must be str or null"]),
        ({"strategy": "bidkv", "retention": ""}, ["retention must not be empty"]),
        ({"strategy": "bidkv", "events_path": ""}, ["events_path must not be empty"]),
    ],
)
def test_bad_settings_name_the_key_and_what_is_allowed(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(BidValidationError) as caught:
        AdapterSettings.from_dict(values)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (AdapterSettings("nope"), "strategy: unknown 'nope'"),
        (AdapterSettings("bidkv", admission="nope"), "admission: unknown 'nope'"),
        (AdapterSettings("bidkv", victim="nope"), "victim: unknown 'nope'"),
    ],
)
def test_unknown_names(settings: AdapterSettings, word: str) -> None:
    with pytest.raises(UnknownNameError, match=word):
        settings.build()


def test_a_control_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    control = ControlFile(path)
    assert control.poll() is None, "no file is no news"
    settings = AdapterSettings("lcf", run_id="a", events_path="e", params={"x": 1}, log_schedule=True)
    write_control(path, settings)
    assert updated_settings(None, control.poll()) == settings
    assert control.poll() is None
    write_control(path, {"kill_switch": True})
    switched = updated_settings(settings, control.poll())
    assert switched == AdapterSettings(**{**settings.to_dict(), "kill_switch": True})
    write_control(path, settings)
    assert updated_settings(switched, control.poll()) == settings
    assert [p.name for p in tmp_path.iterdir()] == ["control.json"], "a draft was left behind"


@pytest.mark.parametrize("content", ["{half", "[]", ""])
def test_a_spoilt_control_file_is_an_error_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "control.json"
    path.write_text(content)
    control = ControlFile(path)
    with pytest.raises(BidValidationError, match=str(path)):
        control.poll()
    assert control.poll() is None
    with pytest.raises(BidValidationError, match="strategy"):
        updated_settings(None, {"kill_switch": True})


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            write_control(path, AdapterSettings("bidkv", run_id="x" * (number % 7) * 3000))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        control, seen = ControlFile(path), 0
        while seen < 200:
            seen += control.poll() is not None  # raises on half a file
    finally:
        stop.set()
        writer.join()


def test_settings_travel_as_json() -> None:
    settings = AdapterSettings("bidkv", seed=4, params={"completion_weight": 0.1})
    assert AdapterSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
