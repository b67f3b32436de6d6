"""SGLang on virtual time decides what the real engine decided, step by step, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[3]
ENGINES = {
    # As SGLang comes: steps overlap, pages of one token.
    "overlapping": {
        "overrides": ["engine.num_blocks=900"],
        "runs": {
            "stock": "sglang_default",
            "backfill": "backfill",
            "auction": "bidkv2",
            "evicting": "bidkv_radix",
        },
    },
    # One step after the other, larger pages, those that run decode beside a prefill.
    "mixed": {
        "overrides": [
            "engine.num_blocks=226",
            "engine.block_size=4",
            "+engine.extra.enable_mixed_chunk=true",
        ],
        "runs": {"stock": "sglang_default", "backfill": "backfill"},
    },
}
RUNS = [(engine, run) for engine, what in ENGINES.items() for run in what["runs"]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `sim_script.py` found, by engine."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "jobs.json").write_text(json.dumps(ENGINES))
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    environment = os.environ | {"PYTHONPATH": path, "SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION": "8"}
    for name in ENGINES:
        for command in ("record", "simulate"):
            script = [
                sys.executable,
                str(Path(__file__).with_name("sim_script.py")),
                command,
                str(folder),
                name,
            ]
            done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ENGINES}


@pytest.mark.parametrize(("engine", "run"), RUNS)
def test_same_steps_same_memory_and_same_victims(found: dict[str, Any], engine: str, run: str) -> None:
    replayed = found[engine]["replays"][run]
    assert replayed["difference"] is None
    assert replayed["steps"] == replayed["recorded"] > 300
    assert replayed["preemptions"] >= 10


@pytest.mark.parametrize(("engine", "run"), RUNS)
def test_another_strategy_is_found_out(found: dict[str, Any], engine: str, run: str) -> None:
    replayed = found[engine]["another"][run]
    assert (
        replayed["difference"] is not None and replayed["steps"] < found[engine]["replays"][run]["recorded"]
    )


@pytest.mark.parametrize(("engine", "run"), RUNS)
def test_a_run_answers_everybody_and_is_the_same_twice(found: dict[str, Any], engine: str, run: str) -> None:
    """Every round of it was checked: pages, tokens and requests are all there (`engine.sim.check`)."""
    first, second = found[engine]["runs"][run]
    assert first == second
    assert first["status"] == "finished" and {log[0] for log in first["logs"]} == {"ok"}
    ended = [event for event in first["events"] if event["type"] == "request"]
    assert len({event["id"] for event in ended}) == len(ended) == len(first["logs"])
    assert first["events"][0]["engine"] == "sglang_sim"
    times = [log[2:] for log in first["logs"]]
    assert all(0 < started <= finished <= first["end"] for started, finished in times)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_gives_up_and_who_is_cut_off_is_aborted(found: dict[str, Any], engine: str) -> None:
    late = found[engine]["late"]
    assert late["status"] == "timeout" and late["end"] == 1.5
    statuses = [log[0] for log in late["logs"]]
    assert {"ok", "timeout"} <= set(statuses) <= {"ok", "timeout", "unsent"}
    assert all(log[3] <= 1.5 for log in late["logs"] if log[0] == "ok")
    reasons = {event["id"]: event["reason"] for event in late["events"] if event["type"] == "request"}
    assert sum(reason == "abort" for reason in reasons.values()) == statuses.count("timeout")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_after_the_deadline_is_none(found: dict[str, Any], engine: str) -> None:
    """The step that answers it ends a microsecond after its client gave up; as in vllm_sim."""
    in_time, one_late = found[engine]["one_late"]
    assert in_time == ["ok", "ok"] and sorted(one_late) == ["ok", "timeout"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_takes_too_long_leaves_the_engine_fit_for_the_next(
    found: dict[str, Any], engine: str
) -> None:
    assert "engine.sim.wall_timeout_s=1e-09" in found[engine]["slow"]
    assert found[engine]["after"]["status"] == "finished"


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_that_is_lost_is_found_out(found: dict[str, Any], engine: str) -> None:
    assert "held are not" in found[engine]["leak"]
