"""An engine core in its own process: the plugin, a switch while it runs, and records after SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_load

from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.events import read_events

pytestmark = pytest.mark.engine
START_SECONDS = 300
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"  # the core computes, too: one start less


class RunningEngine:
    """The engine's process, its core's pid and its files."""

    def __init__(self, folder: Path, model: Path):
        self.control, self.events_path = folder / "control.json", folder / "events.jsonl"
        self.steps_path = folder / "steps.jsonl"
        settings = {"strategy": "largest-first", "run_id": "first", "events_path": str(self.events_path)}
        write_control(self.control, settings | {"steps_path": str(self.steps_path)})
        plan = {
            "engine": {
                "model": str(model),
                "dtype": "float32",
                "enforce_eager": True,
                "distributed_executor_backend": ONE_PROCESS,
                "kv_cache_memory_bytes": 64 << 20,
                "max_model_len": 512,
                "block_size": 32,
                "num_gpu_blocks_override": 24,
                "max_num_seqs": 16,
                "max_num_batched_tokens": 512,
                "skip_tokenizer_init": True,
                "additional_config": {
                    "bidkv": {"control_file": str(self.control), "trusted_control": True}
                },  # and no scheduler_cls
            },
            "requests": make_load(16),
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        self.log = folder / "log"
        script = Path(__file__).with_name("separate_core.py")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), str(folder / "plan.json")],
                env={**os.environ, "BIDKV_STRATEGY": "lcf", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, condition: Any, seconds: float) -> Any:
        deadline = time.time() + seconds
        while time.time() < deadline:
            result = condition()
            if result:
                return result
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.05)
        raise AssertionError(f"nothing within {seconds} s: {self.log.read_text()[-3000:]}")

    def core(self) -> int | None:
        for line in self.log.read_text().splitlines():
            if line.startswith('{"cores"'):
                (pid,) = json.loads(line)["cores"]
                return pid
        return None

    def preemptions(self, path: Path) -> list[dict[str, Any]]:
        if not path.exists():
            return []
        return [e for e in read_events(path) if e["type"] == "preempt"]

    def close(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(30)


@pytest.fixture
def engine(tmp_path: Path, tiny_model: Path) -> Iterator[RunningEngine]:
    running = RunningEngine(tmp_path, tiny_model)
    yield running
    running.close()


def test_switches_reach_the_core_and_its_records_survive_a_kill(
    engine: RunningEngine, tmp_path: Path
) -> None:
    core = engine.wait_for(engine.core, START_SECONDS)
    first = engine.events_path
    engine.wait_for(lambda: len(engine.preemptions(first)) >= 10, 300)
    start = read_events(first)[0]
    assert (start["engine"], start["victim"], start["scheduler"]) == ("vllm", "largest", "sync")
    assert {p["source"] for p in engine.preemptions(first)} == {"strategy"}

    before = time.time()
    write_control(engine.control, {"kill_switch": True})
    written = time.time()
    engine.wait_for(lambda: engine.preemptions(first)[-1]["source"] == "kill_switch", 300)
    switched = next(e for e in read_events(first) if e["type"] == "kill_switch")
    assert before <= switched["t"]
    assert all((p["t"] < switched["t"]) == (p["source"] == "strategy") for p in engine.preemptions(first))

    second = tmp_path / "second.jsonl"
    write_control(engine.control, {"strategy": "bidkv", "run_id": "second", "events_path": str(second)})
    engine.wait_for(lambda: len(engine.preemptions(second)) >= 20, 300)
    assert read_events(first)[-1]["type"] == "run_end"
    later = [step for step in read_events(engine.steps_path) if written < step["t"] < switched["t"]]
    assert len(later) <= 1, "the switch holds from the next step on"

    os.kill(core, signal.SIGKILL)
    engine.wait_for(lambda: not Path(f"/proc/{core}").exists() or _is_zombie(core), 300)
    content = second.read_bytes()
    assert content.endswith(b"\n")
    records = [json.loads(line) for line in content.splitlines()]
    assert records[0]["type"] == "run_start" and records[-1]["type"] != "run_end"
    ended = sum(r["type"] == "request" for r in records)
    assert sum(r["type"] == "preempt" for r in records) >= 20 and ended > 0


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
