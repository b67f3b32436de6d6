"""The control file: whose it must be, what it may say, and that nothing in its place holds up a step."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bidkv.adapters.shared.clock import steady_time
from bidkv.adapters.shared.control import AS_STARTED, ControlFile, updated_settings, write_control
from bidkv.adapters.shared.control_place import MOST_BYTES, check_place
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.session import Session
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.vllm.server.configure import AdapterConfig, adapter_config, rank_facts
from bidkv.errors import BidValidationError
from bidkv.lengths.estimates import learned_by
from bidkv.request import FinishedRequest, RequestState

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
STARTED = AdapterSettings("backfill", run_id="serve", seed=3, events_path="/var/log/events.jsonl")
FACTS = {"num_blocks": 10, "block_size": 16, "max_num_seqs": 4, "prefix_caching": False}
EVIL = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from bidkv.strategies.triples import LcfStrategy
class X(LcfStrategy):
    name = "x"
"""


def session(control: ControlFile | None, settings: AdapterSettings = STARTED, **facts: str) -> Session:
    made = Session(control, facts=lambda: FACTS | facts, changed=lambda: None)
    made.open(settings)
    return made


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control.json"


# -- its place ---------------------------------------------------------------------------------------


def test_a_file_of_our_own_is_read(control: Path) -> None:
    control.write_text('{"kill_switch": true}')
    check_place(control)
    assert ControlFile(control).poll() == {"kill_switch": True}


def chmod(mode: int) -> Callable[[Path], None]:
    return lambda path: os.chmod(path, mode)


def give_away(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: chmod(0o666)(path), ["mode 666", "chmod go-w {path}"]),
        (lambda path: chmod(0o620)(path), ["group or others", "chmod go-w {path}"]),
        (lambda path: chmod(0o777)(path.parent), ["its folder", "use a folder of the server's own"]),
        (lambda path: chmod(0o1777)(path.parent), ["its folder", "mode 1777"]),
        pytest.param(give_away, ["belongs to user 65534", "chown 0 {path}"], marks=as_root),
        pytest.param(
            lambda path: give_away(path.parent), ["its folder belongs to user 65534"], marks=as_root
        ),
    ],
)
def test_a_file_that_somebody_else_may_write_is_refused_once_with_the_cure(
    control: Path, spoil: Callable[[Path], None], words: list[str]
) -> None:
    control.write_text('{"kill_switch": true}')
    spoil(control)
    source = ControlFile(control)
    with pytest.raises(BidValidationError) as caught:
        source.poll()
    text = str(caught.value)
    assert text.startswith(f"control file {control}: ") and "\n" not in text
    assert all(word.format(path=control) in text for word in words)
    assert source.poll() is None, "not again until it changes"
    with pytest.raises(BidValidationError):
        check_place(control)
    for path, mode in ((control, 0o644), (control.parent, 0o755)):
        if os.geteuid() == 0:
            os.chown(path, 0, 0)
        os.chmod(path, mode)
    write_control(control, {"kill_switch": True})
    assert source.poll() == {"kill_switch": True}


def link(path: Path) -> None:
    target = path.with_name("elsewhere.json")
    target.write_text('{"kill_switch": true}')
    path.symlink_to(target)


def bind(path: Path) -> None:
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        link,
        bind,
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        pytest.param(lambda path: os.mknod(path, 0o20600, os.makedev(1, 5)), marks=as_root),  # as /dev/zero
    ],
    ids=["fifo", "folder", "link", "socket", "loop", "link to a device", "device"],
)
def test_what_is_no_regular_file_is_refused_and_holds_up_nothing(
    control: Path, make: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(control.parent)
    try:
        make(control)
    except PermissionError:
        pytest.skip("no device can be made here")
    made = session(ControlFile(control), AdapterSettings("backfill"))
    polled = threading.Thread(target=made.poll, daemon=True)
    polled.start()
    polled.join(60)
    assert not polled.is_alive(), "a poll waits"
    made.poll()
    assert made.log.counters["control_errors"] == 1
    assert (made.settings.strategy, made.settings.kill_switch) == ("backfill", False)


def test_a_path_that_cannot_be_looked_at_is_an_error_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = session(ControlFile(tmp_path / "file" / "control.json"), AdapterSettings("lcf"))
    for _ in range(3):
        made.poll()
    assert made.log.counters["control_errors"] == 2  # the folder, then the path


def test_a_bad_folder_is_told_before_there_is_a_file(control: Path) -> None:
    control.parent.chmod(0o1777)
    made = session(ControlFile(control), AdapterSettings("lcf"))
    for _ in range(3):
        made.poll()
    assert made.log.counters["control_errors"] == 1
    with pytest.raises(BidValidationError, match="no-such-folder: No such file"):
        check_place(control.parent / "no-such-folder" / "control.json")


# -- what is in it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{half", "control.json"),
        ("[]", "must hold a JSON object, got list"),
        ("", "control.json"),
        ("[" * 60_000, "recursion"),
        ('{"params": {"x": NaN}}', "NaN is no number"),
        ('{"params": {"x": -Infinity}}', "-Infinity"),
        ('{"params": {"x": 1e999}}', "1e999"),
        ('{"seed": 1' + "0" * 400 + "}", "401 digits"),
        ('{"seed": 1' + "0" * 5000 + "}", "control.json"),
        ('{"kill_switch": true, "kill_switch": false}', "'kill_switch' is there twice"),
        (" " * (MOST_BYTES + 1), f"no larger than {MOST_BYTES} bytes"),
        (b"\xff\xfe{", "control.json"),
        (b"\xc3\x28", "control.json"),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(control: Path, content: str | bytes, words: str) -> None:
    control.write_bytes(content.encode() if isinstance(content, str) else content)
    source = ControlFile(control)
    with pytest.raises(BidValidationError) as caught:
        source.poll()
    assert words in str(caught.value) and str(control) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert source.poll() is None


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"strategy": "/tmp/evil.py:X"}, ["strategy '/tmp/evil.py:X'", "a file of code"]),
        ({"strategy": "lcf", "admission": "evil.py:X"}, ["admission 'evil.py:X'"]),
        ({"strategy": "lcf", "victim": "evil.py:X"}, ["victim 'evil.py:X'"]),
        ({"strategy": "lcf", "retention": "evil.py:X"}, ["retention 'evil.py:X'", "a file of code"]),
        (
            {"strategy": "lcf", "events_path": "/etc/cron.d/x"},
            ["events_path '/etc/cron.d/x'", "leave it out"],
        ),
        ({"strategy": "lcf", "events_path": None}, ["events_path None"]),
        ({"strategy": "lcf", "steps_path": "/tmp/x"}, ["steps_path"]),
        ({"strategy": "lcf", "run_id": "other"}, ["run_id 'other'", "'serve'"]),
        ({"strategy": "lcf", "client_facts": True}, ["client_facts True"]),
        ({"strategy": "lcf", "log_schedule": True}, ["log_schedule"]),
        ({"strategy": "lcf", "trusted_control": True}, ["unknown key 'trusted_control'"]),
        ({"strategy": "lcf", "control_file": "/tmp/x"}, ["unknown key 'control_file'"]),
        ({"kill_switch": 1}, ["kill_switch must be bool"]),
        ({}, ["'strategy' is missing"]),
    ],
)
def test_the_file_says_no_more_than_names_and_the_kill_switch(
    update: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(BidValidationError) as caught:
        updated_settings(STARTED, update)
    assert all(word in str(caught.value) for word in words)


def test_what_the_file_leaves_out_stays_as_the_engine_was_started() -> None:
    new = updated_settings(STARTED, {"strategy": "lcf-guard", "params": {"max_preemptions": 2}})
    assert (new.strategy, new.params) == ("lcf-guard", {"max_preemptions": 2})
    assert (new.run_id, new.seed, new.events_path) == ("serve", 3, "/var/log/events.jsonl")
    same = updated_settings(STARTED, STARTED.to_dict() | {"kill_switch": True})
    assert same.kill_switch and same.events_path == STARTED.events_path


def test_code_of_the_file_never_runs_but_what_the_engine_was_started_with_may_come_back(
    control: Path, tmp_path: Path
) -> None:
    evil, own = tmp_path / "evil.py", tmp_path / "own.py"
    evil.write_text(EVIL)
    own.write_text(EVIL.replace('"ran"', '"own_ran"').replace('"x"', '"own"'))
    made = session(ControlFile(control, started=STARTED), AdapterSettings(f"{own}:X"))
    for update in ({"strategy": f"{evil}:X"}, {"strategy": "lcf", "victim": f"{evil}:X"}):
        write_control(control, update)
        made.poll()
        assert made.settings.strategy == f"{own}:X"
    assert made.log.counters["control_errors"] == 2
    assert not (tmp_path / "ran").exists() and (tmp_path / "own_ran").exists()

    started = AdapterSettings(f"{own}:X")
    made = session(ControlFile(control, started=started), started)
    for update, name in (({"strategy": "lcf"}, "lcf"), ({"strategy": f"{own}:X"}, f"{own}:X")):
        write_control(control, update)
        made.poll()
        assert made.settings.strategy == name and not made.log.counters["control_errors"]


def test_the_kill_switch_does_not_run_a_strategys_file_again(control: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(EVIL)
    made = session(ControlFile(control), AdapterSettings(f"{own}:X"))
    (tmp_path / "ran").unlink()
    for on in (True, False):
        write_control(control, {"kill_switch": on})
        made.poll()
        assert made.settings.kill_switch is on
    assert not (tmp_path / "ran").exists()


def test_a_constructor_that_raises_changes_nothing(control: Path) -> None:
    made = session(ControlFile(control))
    write_control(control, {"strategy": "backfill", "admission_params": {"depth": []}})
    made.poll()
    assert (made.log.counters["control_errors"], made.settings) == (1, STARTED)


# -- who trusts it -----------------------------------------------------------------------------------


def test_who_makes_the_engine_may_trust_the_file_with_everything(control: Path, tmp_path: Path) -> None:
    policy = tmp_path / "own.py"
    policy.write_text(EVIL)
    section = {"strategy": "lcf", "client_facts": True, "control_file": str(control)}
    update = {"strategy": f"{policy}:X", "run_id": "two", "events_path": str(tmp_path / "two.jsonl")}
    for trusted in (False, True):
        settings, source = adapter_config({"bidkv": section | {"trusted_control": trusted}})
        made = session(source, settings)
        write_control(control, update)
        made.poll()
        assert made.settings.strategy == (update["strategy"] if trusted else "lcf")
        assert made.settings.client_facts, "kept unless it says otherwise"
        control.unlink()
    assert read_events(tmp_path / "two.jsonl")[0]["run_id"] == "two"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"strategy": "lcf", "trusted_control": True}, "needs a control_file"),
        ({"strategy": "lcf", "control_file": "c.json", "trusted_control": 1}, "trusted_control must be bool"),
        ({"strategy": "lcf", "control_file": 3}, "control_file must be str"),
        ({"strategy": "lcf", "client_facts": "yes"}, "client_facts must be bool"),
    ],
)
def test_a_bad_section_is_named(section: dict[str, Any], words: str) -> None:
    with pytest.raises(BidValidationError, match=words):
        adapter_config(AdapterConfig(section))


def test_a_variable_names_the_strategy_of_a_section_that_names_none_and_no_other(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIDKV_STRATEGY", "backfill")
    with pytest.raises(BidValidationError, match="BIDKV_STRATEGY=backfill has no effect .* names 'lcf'"):
        adapter_config({"bidkv": {"strategy": "lcf"}})
    assert adapter_config({"bidkv": {"strategy": "backfill"}})[0].strategy == "backfill"
    assert adapter_config({"bidkv": {"control_file": str(control)}})[0].strategy == "backfill"


def test_an_engine_given_a_file_alone_starts_with_what_it_says_and_then_keeps_to_it(control: Path) -> None:
    write_control(control, {"strategy": "lcf", "run_id": "a", "events_path": None})
    settings, source = adapter_config({"bidkv": {"control_file": str(control)}})
    assert settings == AdapterSettings("lcf", run_id="a")
    write_control(control, {"strategy": "lcf", "run_id": "b"})
    with pytest.raises(BidValidationError, match="run_id 'b'"):
        source.update(settings)
    write_control(control, {"strategy": "evil.py:X"})
    with pytest.raises(BidValidationError, match="a file of code"):
        adapter_config({"bidkv": {"control_file": str(control)}})


# -- a switch ----------------------------------------------------------------------------------------


def test_learned_lengths_outlive_a_switch_also_by_a_strategy_that_learns_none(control: Path) -> None:
    source = ControlFile(control, trusted=True)
    made = session(source, AdapterSettings("backfill", run_id="serve"))
    request = RequestState("a", 0, 500, 0, 1024)

    def expected() -> float:
        return learned_by(made.strategy.admission).mean(request)

    for _ in range(30):
        made.strategy.observe(FinishedRequest("x", 500, 200, 1024))
    for strategy in ("lcf", "backfill"):
        write_control(control, {"strategy": strategy, "run_id": "serve"})
        made.poll()
    assert expected() == 200
    write_control(control, {"strategy": "backfill", "run_id": "another run of a benchmark"})
    made.poll()
    assert expected() == 512


def test_the_pace_is_kept_within_a_run_id_and_starts_anew_with_the_next(control: Path) -> None:
    source = ControlFile(control, trusted=True)
    made = session(source, AdapterSettings("backfill", run_id="serve"))
    start, step = made.pool.seconds_per_step, object()
    made.pace.began(step, 1.0)
    made.pace.ended(step, 3.0)
    write_control(control, {"strategy": "lcf", "run_id": "serve"})
    made.poll()
    assert made.pool.seconds_per_step == 2.0 != start
    write_control(control, {"strategy": "lcf", "run_id": "another run of a benchmark"})
    made.poll()
    assert made.pool.seconds_per_step == start


@pytest.mark.parametrize("flags", [{"strategy": "lcf", "seed": 7, "run_id": "serve"}, {}])
def test_what_the_engine_was_started_with_can_be_had_back(control: Path, flags: dict[str, Any]) -> None:
    if not flags:  # then the file's first settings are those
        write_control(control, {"strategy": "lcf", "seed": 7, "run_id": "serve"})
    settings, source = adapter_config({"bidkv": flags | {"control_file": str(control)}})
    made = session(source, settings)
    write_control(control, {"strategy": "bidkv", "seed": 9, "until": 1e12})
    made.poll()
    assert made.settings.strategy == "bidkv"
    write_control(control, AS_STARTED)
    made.poll()
    assert made.settings == settings and made.log.counters["control_errors"] == 0
    write_control(control, AS_STARTED | {"seed": 1})
    made.poll()
    assert made.log.counters["control_errors"] == 1, "beside it nothing can be said"


# -- a dead man's switch ------------------------------------------------------------------------------


def timed(control: Path, clock: list[float], **settings: Any) -> Session:
    made = Session(ControlFile(control), facts=lambda: FACTS, changed=lambda: None, clock=lambda: clock[0])
    made.open(AdapterSettings("backfill", run_id="serve", **settings))
    return made


@pytest.mark.parametrize("lost", [lambda path: None, Path.unlink, lambda path: path.write_bytes(b"{")])
def test_settings_end_at_their_time_whatever_becomes_of_the_file_and_of_who_wrote_it(
    control: Path, tmp_path: Path, lost: Callable[[Path], Any]
) -> None:
    clock, events = [1000.0], tmp_path / "events.jsonl"
    made = timed(control, clock, events_path=str(events))
    write_control(control, {"strategy": "lcf", "until": 1030.0})
    made.poll()
    assert made.settings.strategy == "lcf" and not made.settings.kill_switch
    lost(control)
    for clock[0], killed in ((1029.9, False), (1030.0, True), (1e6, True)):
        made.poll()
        assert made.settings.kill_switch == killed
    switches = [record for record in read_events(events) if record["type"] == "kill_switch"]
    assert [(record["on"], record["t"]) for record in switches] == [(True, 1030.0)]


def test_a_later_time_is_no_switch_and_an_update_without_one_has_no_end(
    control: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, events, changes = [1000.0], tmp_path / "events.jsonl", []
    made = timed(control, clock, events_path=str(events))
    made._changed = lambda: changes.append(clock[0])
    for t, until in ((1000, 1030), (1010, 1040), (1039, 1069)):
        clock[0] = float(t)
        write_control(control, {"kill_switch": False, "until": until})
        made.poll()
    assert not made.settings.kill_switch and made.settings.until == 1069
    assert not changes, "who waits stays in his place"
    clock[0] = 1070.0
    with caplog.at_level("INFO", "bidkv"):
        made.poll()
    assert made.settings.kill_switch and "nobody said before its `until`" in caplog.text
    write_control(control, {"kill_switch": False})
    made.poll()
    assert not made.settings.kill_switch and made.settings.until is None
    assert [record["type"] for record in read_events(events)] == ["run_start", "kill_switch", "kill_switch"]


def test_a_server_that_starts_again_on_an_old_file_starts_with_the_engines_own_choices(control: Path) -> None:
    write_control(control, {"strategy": "lcf", "until": 5.0})
    settings, source = adapter_config({"bidkv": {"strategy": "lcf", "control_file": str(control)}})
    made = session(source, settings)
    made.poll()  # before the first request is taken or scheduled
    assert made.settings.kill_switch


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
def test_a_loan_is_no_longer_for_a_wall_clock_that_was_set_before_it(
    control: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    wall, clock = time.time, [steady_time()]
    made = timed(control, clock)
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    write_control(control, {"strategy": "lcf", "until": time.time() + 30.0})
    made.poll()
    assert made.settings.strategy == "lcf"
    clock[0] += 31.0
    made.poll()
    assert made.settings.kill_switch


def test_an_end_that_is_no_time_changes_nothing(control: Path) -> None:
    made = timed(control, [1000.0])
    write_control(control, {"kill_switch": False, "until": "tomorrow"})
    made.poll()
    assert made.settings.until is None and made.log.counters["control_errors"] == 1


def test_each_rank_has_its_own_files_and_says_which_it_is(tmp_path: Path) -> None:
    settings = AdapterSettings(
        "lcf", events_path=str(tmp_path / "events.jsonl"), steps_path=str(tmp_path / "steps")
    )
    for size, index, rank in ((1, 0, None), (4, 0, "dp0"), (4, 3, "dp3"), (1, 2, "dp2")):
        config = SimpleNamespace(data_parallel_size=size, data_parallel_index=index)
        facts = rank_facts(config)
        assert facts == ({} if rank is None else {"rank": rank})
        session(None, settings, **facts).close()
    names = {path.name for path in tmp_path.iterdir()}
    events = {"events.jsonl", "events.dp0.jsonl", "events.dp3.jsonl", "events.dp2.jsonl"}
    assert names == events | {"steps", "steps.dp0", "steps.dp3", "steps.dp2"}
    start, end = read_events(tmp_path / "events.dp3.jsonl")
    assert (start["rank"], end["type"]) == ("dp3", "run_end")
    assert "rank" not in read_events(tmp_path / "events.jsonl")[0]


def test_a_poll_without_news_looks_at_the_file_once(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control.write_text('{"kill_switch": true}')
    made = session(ControlFile(control))
    made.poll()
    calls: list[str] = []
    for name in ("lstat", "stat", "open", "fstat"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, real=real, name=name, **k: (calls.append(name), real(*a, **k))[1]
        )
    made.poll()
    assert calls == ["lstat"]
    monkeypatch.undo()
    time.sleep(0.01)
    control.write_text(json.dumps({"kill_switch": False}))
    made.poll()
    assert not made.settings.kill_switch


@pytest.mark.parametrize(
    ("key", "value"), [("depth", 2.5), ("depth", 1e300), ("max_overtaken", 2.5), ("max_overtaken", True)]
)
def test_half_a_request_is_no_bound_and_no_depth(control: Path, key: str, value: Any) -> None:
    made = session(ControlFile(control), AdapterSettings("lcf"))
    write_control(control, {"strategy": "backfill", "admission_params": {key: value}})
    made.poll()
    assert made.log.counters["control_errors"] == 1
    assert made.strategy.name == "lcf"
    with pytest.raises(BidValidationError, match=f"{key}.*must be"):
        AdapterSettings("backfill", admission_params={key: value}).build()


def test_a_folder_above_that_others_may_write_is_refused_with_the_cure(tmp_path: Path) -> None:
    own = tmp_path / "all" / "own"
    own.mkdir(parents=True, mode=0o755)
    write_control(own / "control.json", {"kill_switch": True})
    os.chmod(tmp_path / "all", 0o777)  # anybody may rename `own` and put another folder of the server's there
    with pytest.raises(BidValidationError, match=f"chmod go-w {tmp_path}/all") as error:
        ControlFile(own / "control.json").poll()
    assert "\n" not in str(error.value)
    os.chmod(tmp_path / "all", 0o1777)  # as /tmp: only the owner of `own` may
    assert ControlFile(own / "control.json").poll() == {"kill_switch": True}


@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_link_to_the_folder_is_followed_where_nobody_else_can_turn_it(tmp_path: Path, mode: int) -> None:
    own, links = tmp_path / "own", tmp_path / "links"
    own.mkdir(mode=0o755), links.mkdir()
    (links / "here").symlink_to(own)
    write_control(own / "control.json", {"kill_switch": True})
    os.chmod(links, mode)
    control = ControlFile(links / "here" / "control.json")
    if mode == 0o755:
        assert control.poll() == {"kill_switch": True}
        return
    with pytest.raises(BidValidationError, match=f"{links}.*written by group or others"):
        control.poll()
