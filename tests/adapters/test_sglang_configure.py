"""SGLang's settings come from the environment alone; needs no SGLang."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from bidkv.adapters.sglang import configure, serve
from bidkv.adapters.sglang.plugin import register
from bidkv.adapters.shared.control import write_control
from bidkv.errors import BidValidationError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRATEGY", "CONTROL", "TRUST", "FACTS", "RECORD"):
        variable = getattr(configure, f"{name}_VARIABLE")
        monkeypatch.setenv(variable, "")  # remembered, whatever a test sets
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SGLANG_PLUGINS", "")


@pytest.mark.parametrize("asked", [False, True])
def test_clients_are_believed_where_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: bool
) -> None:
    monkeypatch.setenv(configure.FACTS_VARIABLE, str(int(asked)))
    monkeypatch.setenv(configure.STRATEGY_VARIABLE, "lcf")
    assert configure.read_configuration()[0].client_facts is asked
    monkeypatch.setenv(configure.CONTROL_VARIABLE, str(tmp_path / "control.json"))
    write_control(tmp_path / "control.json", {"strategy": "lcf"})
    assert configure.read_configuration()[0].client_facts is asked


def test_the_control_file_is_strict_unless_the_environment_trusts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    control = tmp_path / "control.json"
    monkeypatch.setenv(configure.CONTROL_VARIABLE, str(control))
    for trusted in (False, True):
        monkeypatch.setenv(configure.TRUST_VARIABLE, str(int(trusted)))
        write_control(control, {"strategy": "lcf", "run_id": "one"})
        settings, source = configure.read_configuration()
        write_control(control, {"strategy": "lcf", "run_id": "two"})
        if trusted:
            assert source.update(settings).run_id == "two"
        else:
            with pytest.raises(BidValidationError, match="run_id 'two'"):
                source.update(settings)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (configure.FACTS_VARIABLE, "yes", "BIDKV_CLIENT_FACTS: must be 0 or 1, got 'yes'"),
        (configure.TRUST_VARIABLE, "true", "BIDKV_TRUSTED_CONTROL: must be 0 or 1, got 'true'"),
        (configure.TRUST_VARIABLE, "1", "BIDKV_TRUSTED_CONTROL=1: there is no BIDKV_CONTROL_FILE"),
        (configure.CONTROL_VARIABLE, "/no/such/control.json", "no control file at /no/such/control.json"),
    ],
)
def test_what_has_no_effect_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(configure.STRATEGY_VARIABLE, "lcf")
    monkeypatch.setenv(variable, value)
    with pytest.raises(BidValidationError, match=words):
        configure.read_configuration()


def test_a_strategy_beside_a_control_file_that_names_another_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    control = tmp_path / "control.json"
    write_control(control, {"strategy": "lcf"})
    monkeypatch.setenv(configure.CONTROL_VARIABLE, str(control))
    monkeypatch.setenv(configure.STRATEGY_VARIABLE, "bidkv")
    with pytest.raises(
        BidValidationError, match="BIDKV_STRATEGY=bidkv has no effect beside .*'lcf'; unset one"
    ):
        configure.read_configuration()


def test_the_flag_becomes_the_variable_that_the_spawned_processes_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setenv(configure.STRATEGY_VARIABLE, "lcf")
    monkeypatch.setattr(sys, "argv", ["serve", "--port", "1", serve.FACTS_FLAG, "--model-path", "m"])
    monkeypatch.setattr(runpy, "run_module", lambda *a, **k: seen.append(sys.argv))  # SGLang itself
    serve.main()
    assert seen == [["sglang.launch_server", "--port", "1", "--model-path", "m"]]
    assert os.environ[configure.FACTS_VARIABLE] == "1" and configure.read_configuration()[0].client_facts


def test_the_folder_to_record_into_is_made_or_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert configure.recording_place() is None
    monkeypatch.setenv(configure.RECORD_VARIABLE, str(tmp_path / "recording"))
    assert (
        configure.recording_place().folder == str(tmp_path / "recording")
        and (tmp_path / "recording").is_dir()
    )
    monkeypatch.setenv(configure.RECORD_VARIABLE, "/no/such/folder")
    with pytest.raises(BidValidationError, match="record /no/such/folder: "):
        configure.recording_place()


@pytest.mark.parametrize(
    ("variable", "value"),
    [(configure.RECORD_VARIABLE, "x"), (configure.FACTS_VARIABLE, "1"), (configure.TRUST_VARIABLE, "1")],
)
def test_another_variable_without_a_strategy_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    register()
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=f"{variable}={value} has no effect without BIDKV_STRATEGY"):
        register()
