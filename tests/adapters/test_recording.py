"""The files of a recording: bounded, readable after a crash, and never the server's trouble."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bidkv.adapters.shared.recording.lives import Life, QueueClock
from bidkv.adapters.shared.recording.numbers import BlockNumbers
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.recording.segments import Segments
from bidkv.adapters.shared.recording.writer import Writer
from bidkv.adapters.vllm.server.configure import adapter_config, recording_place
from bidkv.errors import BidValidationError

ROOT = Path(__file__).resolve().parents[2]
HEAD = b'{"type":"recording"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "recording"
    place.mkdir(mode=0o700)
    return place


def test_the_oldest_segment_goes_and_each_begins_with_the_head(folder: Path) -> None:
    segments = Segments(RecordingPlace(str(folder), 16), None, HEAD)
    line = b"[" + b"1," * 50_000 + b"1]\n"
    for _ in range(400):  # 40 MB
        segments.write(line)
    segments.close()
    files = sorted(folder.iterdir())
    assert 14 <= len(files) <= 16
    assert sum(path.stat().st_size for path in files) <= 16 * 1024 * 1024
    assert all(path.read_bytes().startswith(HEAD) for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    later = Segments(RecordingPlace(str(folder), 16), "dp1", HEAD)  # another rank's are not its to remove
    later.write(line)
    later.close()
    assert set(files) < set(folder.iterdir())


def test_two_servers_in_one_folder_leave_each_other_what_they_write(folder: Path) -> None:
    line = b"[" + b"1," * 50_000 + b"1]\n"
    both = [Segments(RecordingPlace(str(folder), 16), None, HEAD) for _ in range(2)]
    one, other = sorted(both, key=lambda segments: segments._start)  # of one second: chance says who is older
    one.write(line)
    (folder / "recording-dp0-20200101T000000-0000-000001.jsonl").mkdir()  # somebody else's idea
    for _ in range(400):
        other.write(line)
    one.write(line)
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    assert sum(sizes) <= 16 * 1024 * 1024 and 2 * len(line) + len(HEAD) in sizes
    one.close()
    for _ in range(400):  # more than all of it
        other.write(line)
    other.close()
    assert 2 * len(line) + len(HEAD) not in [path.stat().st_size for path in folder.iterdir()], (
        "nobody writes it"
    )


def tell(writer: Writer, number: int) -> None:
    writer.tell((dict, {"n": number}))
    writer.goes_on()


def test_a_segment_that_is_gone_stops_the_recording_with_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(Segments(RecordingPlace(str(folder)), None, HEAD))
    writer.EVERY_S = 0.01
    tell(writer, 1)
    wait_for(lambda: list(folder.iterdir()))
    (path,) = folder.iterdir()
    path.unlink()
    folder.rmdir()
    tell(writer, 2)
    wait_for(lambda: writer.stopped)
    for n in range(100):
        tell(writer, n)
    writer.close()
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and "the recording has stopped, the server goes on" in warnings[0].getMessage()


FULL = """
import logging, resource, signal, sys, time
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.recording.segments import Segments
from bidkv.adapters.shared.recording.writer import Writer
logging.basicConfig()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
writer = Writer(Segments(RecordingPlace(sys.argv[1]), None, b'{}\\n'))
writer.EVERY_S = 0.01
for n in range(300):
    writer.tell((dict, {"n": n}))
    writer.goes_on()
    time.sleep(0.002)
writer.close()
assert writer.stopped
print("the server went on")
"""


def test_a_disk_that_is_full_stops_the_recording_and_leaves_whole_lines(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0 and "the server went on" in done.stdout, done.stderr
    assert done.stderr.count("the recording has stopped") == len(done.stderr.strip().splitlines()) == 1
    (path,) = folder.iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert 50 < len(lines) < 300 and [line["n"] for line in lines[1:]] == list(range(len(lines) - 1))


KILLED = """
import sys, time
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.recording.segments import Segments
from bidkv.adapters.shared.recording.writer import Writer
writer = Writer(Segments(RecordingPlace(sys.argv[1]), None, b'{}\\n'))
while True:
    writer.tell((dict, {"t": time.time()}))
    writer.goes_on()
    time.sleep(0.001)
"""


def test_a_process_that_is_killed_loses_the_last_second_at_most(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT)
    try:
        wait_for(lambda: any(path.stat().st_size > 10_000 for path in folder.iterdir()))
        time.sleep(0.7)
    finally:
        killed = time.time()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    (path,) = folder.iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert killed - lines[-1]["t"] < 1.0


def test_a_disk_that_does_not_answer_does_not_fill_the_memory(folder: Path) -> None:
    class Hanging(Segments):
        def write(self, lines: bytes) -> None:
            time.sleep(0.3)

    writer = Writer(Hanging(RecordingPlace(str(folder)), None, HEAD))
    writer.EVERY_S, writer.MOST = 0.001, 50
    for n in range(200):
        tell(writer, n)
    assert writer.stopped and len(writer._waiting) <= writer.MOST + 1
    writer.close()


def wait_for(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_numbers_tell_what_is_the_same_and_memory_is_bounded() -> None:
    numbers = BlockNumbers()
    trunk = [b"a", b"b", b"c"]
    assert numbers.runs(trunk) == [0, 3]
    assert numbers.runs([*trunk, b"d", b"e"]) == [0, 5]
    assert numbers.runs([*trunk, b"f"]) == [0, 3, 5, 1]
    numbers.REMEMBERED = 10
    for n in range(100):
        numbers.runs([*trunk, b"%d" % n])
    assert numbers.held <= 20 and numbers.runs(trunk) == [0, 3]


def test_the_line_is_charged_by_cause_however_many_wait() -> None:
    clock = QueueClock(0.0)
    first = Life(clock, 0.0, 1.0)
    clock.turn("seat", 2.0)
    second = Life(clock, 2.5, 3.0)
    clock.turn("behind", 5.0)
    first.turn("memory", 5.0)
    first.turn("prefill", 7.0)
    clock.turn("intake", 8.0)
    second.turn("prefill", 8.5)
    first.answered(9.0)
    first.turn("decode", 9.0)
    first.end(11.0)
    second.end(10.0)
    assert first.seconds == {"intake": 2.0, "seat": 3.0, "memory": 2.0, "prefill": 2.0, "decode": 2.0}
    assert first.first == {"intake": 2.0, "seat": 3.0, "memory": 2.0, "prefill": 2.0} and first.decodes == [
        [9.0, 11.0]
    ]
    assert second.seconds == {"intake": 1.0, "seat": 2.0, "behind": 3.0, "prefill": 1.5}


def test_an_arrival_by_another_clock_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    assert Life(QueueClock(0.0), 5000.0, 1.0).arrival == 1.0
    assert Life(QueueClock(0.0), -5000.0, 1.0).arrival == 1.0


# -- where it may be --------------------------------------------------------------------------


def test_the_folder_is_made_and_must_be_nobody_elses(tmp_path: Path) -> None:
    RecordingPlace(str(tmp_path / "new")).prepare()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for path, words in (
        (open_to_all, ["mode 777", "chmod go-w"]),
        (open_to_all / "new", ["mode 777"]),
        (tmp_path / "no" / "such", ["No such file"]),
        (Path("/tmp/bidkv-recording"), ["/tmp", "mode 1777"]),
        (Path(__file__), ["is no folder"]),
    ):
        with pytest.raises(BidValidationError) as caught:
            RecordingPlace(str(path)).prepare()
        assert all(word in str(caught.value) for word in [f"record {path}", *words]), caught.value
        assert "\n" not in str(caught.value)


def test_two_servers_may_make_the_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One saw that it was not there, and by then the other had made it."""
    folder = tmp_path / "new"
    RecordingPlace(str(folder)).prepare()
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    RecordingPlace(str(folder)).prepare()
    folder.rmdir()
    folder.write_text("no folder")
    with pytest.raises(BidValidationError, match="File exists"):
        RecordingPlace(str(folder)).prepare()


def test_the_place_comes_from_the_section_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIDKV_RECORD", raising=False)
    section = {"bidkv": {"strategy": "stock", "record": "a", "record_mib": 32}}
    assert recording_place(section) == RecordingPlace("a", 32)
    assert adapter_config(section)[0].strategy == "stock"
    assert recording_place({"bidkv": {"strategy": "stock"}}) is None
    monkeypatch.setenv("BIDKV_RECORD", "b")
    assert recording_place(None) == recording_place({"bidkv": {"strategy": "stock"}}) == RecordingPlace("b")
    with pytest.raises(BidValidationError, match="BIDKV_RECORD=b has no effect beside .*'a'"):
        recording_place(section)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"record": 3}, "record: must be a folder, got 3"),
        ({"record": " "}, "record: must be a folder"),
        ({"record": "a", "record_mib": 1}, "record_mib: must be from 16 to 1048576 MiB, got 1"),
        ({"record": "a", "record_mib": True}, "record_mib: must be"),
        ({"record_mib": 64}, "record_mib 64 needs a record"),
    ],
)
def test_a_bad_place_is_one_line(monkeypatch: pytest.MonkeyPatch, section: dict, words: str) -> None:
    monkeypatch.delenv("BIDKV_RECORD", raising=False)
    with pytest.raises(BidValidationError, match=words):
        recording_place({"bidkv": {"strategy": "stock", **section}})


def test_a_recording_without_a_strategy_is_refused() -> None:
    script = "from bidkv.adapters.vllm.plugin import register; register()"
    for variables, words in (
        ({"BIDKV_RECORD": "x"}, "BIDKV_RECORD=x has no effect without BIDKV_STRATEGY"),
        ({"BIDKV_RECORD": "/no/such/x", "BIDKV_STRATEGY": "stock"}, "BIDKV_RECORD: record /no/such/x"),
    ):
        environment = {k: v for k, v in os.environ.items() if k not in ("BIDKV_STRATEGY", "BIDKV_RECORD")}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment | variables,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 2 and done.stderr.startswith("error: ") and words in done.stderr, (
            done.stderr
        )
