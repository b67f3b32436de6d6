"""From a recording to an engine: a simulated server records, and what is fitted to that does what it did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sim_bench import CONF, MAX_LEN, random_trace, tiny_hardware, variant

import ray_jobs.recommend  # noqa: F401 (registers the configuration's schema)
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.from_recording import LIMITS, fit_facts, fitted_engine, idle_recorded_keys
from ray_jobs.engines.sim.build import SchedulerParts
from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.simulate import simulate
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.trace import Trace
from tracking.explain import explain
from tracking.typed import idle_ones

pytestmark = pytest.mark.usefixtures("tiny_parts")
COSTS = Calibration(
    "of the test",
    bandwidth_efficiency=0.3,
    step_overhead_s=4e-3,
    request_overhead_s=4e-4,
    prefill_overhead_s=1e-3,
)
"""What the recorded device costs; the fit begins elsewhere."""


def parts_of(tiny_parts: SchedulerParts) -> SchedulerParts:
    return variant(tiny_parts, blocks=40, seqs=12, caching=True)


def outcome(
    parts: SchedulerParts, sim: SimConfig, trace: Trace, events: Path, record: str | None = None
) -> Outcome:
    settings = AdapterSettings(
        "stock", run_id="r", events_path=str(events), steps_path="memory", kill_switch=True
    )
    return simulate(parts, sim, trace, settings, record=record)


@pytest.fixture(scope="module")
def recorded(tiny_parts: SchedulerParts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("recorded")
    config = configured(folder)
    sim = replace(config.engine.sim, hardware=tiny_hardware(), calibration=COSTS)
    trace = random_trace(5, 300, rate=40.0, shared=48)
    return folder, outcome(parts_of(tiny_parts), sim, trace, folder / "events.jsonl", str(folder / "rec"))


def configured(folder: Path, *more: str) -> RecommendConfig:
    words = [
        "workload=recorded", f"workload.source.path={folder / 'rec'}", "engine=vllm_sim",
        "model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu", *more,
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("recommend", words))


def test_a_simulation_of_what_was_recorded_does_what_was_recorded(
    recorded: tuple[Path, Outcome], tiny_parts: SchedulerParts, tmp_path: Path
) -> None:
    folder, once = recorded
    config = configured(folder)
    found = fitted_engine(config)
    engine = found.engine
    assert {key: getattr(engine, key) for key in LIMITS} == {
        "block_size": 16, "num_blocks": 40, "max_num_seqs": 12, "max_model_len": MAX_LEN, "max_num_batched_tokens": 256,
        "prefix_caching": True,
    }  # fmt: skip
    assert engine.sim.async_scheduling and engine.sim.measured("vllm")
    assert abs(found.held_out.total) < 0.03 and found.held_out.median < 0.05
    trace = freeze_trace(config.workload, 0, engine.vocab_size, engine.max_model_len)
    again = outcome(parts_of(tiny_parts), engine.sim, trace, tmp_path / "events.jsonl")
    e2e = [[log.finish_t - log.sent_t for log in run.logs] for run in (once, again)]
    assert np.mean(e2e[1]) == pytest.approx(np.mean(e2e[0]), rel=0.05)
    assert np.quantile(e2e[1], 0.99) == pytest.approx(np.quantile(e2e[0], 0.99), rel=0.08)
    assert found.latencies["e2e_s"].to_numpy() == pytest.approx(e2e[0], rel=1e-3)
    lost = [sum(event["type"] == "preempt" for event in run.events) for run in (once, again)]
    assert lost[0] == found.latencies["preemptions"].sum() > 10
    assert lost[1] == pytest.approx(lost[0], rel=0.25)
    hits = [sum(event.get("cached", 0) for event in run.events) for run in (once, again)]
    assert hits[0] > 0 and hits[1] == pytest.approx(hits[0], rel=0.1)


def test_a_simulation_does_not_record_into_a_servers_folder(
    tiny_parts: SchedulerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIDKV_RECORD", str(tmp_path / "server"))
    sim = configured(tmp_path).engine.sim
    outcome(parts_of(tiny_parts), sim, random_trace(5, 5), tmp_path / "events.jsonl")
    assert not (tmp_path / "server").exists()


def test_what_was_simulated_adds_up_and_is_explained(recorded: tuple[Path, Outcome]) -> None:
    _, found = explain(str(recorded[0] / "rec"))
    assert len(found.requests) == 300 and found.worst_gap < 1e-6
    assert (
        found.e2e["behind"].sum() > 0 and found.e2e["preempted"].sum() > 0 and found.e2e["slowed"].sum() > 0
    )


def test_a_recording_of_another_scheduler_is_not_simulated(
    recorded: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """Its traffic is traffic all the same."""
    (path,) = (recorded[0] / "rec").iterdir()
    (tmp_path / "rec").mkdir()
    head, lines = path.read_text().split("\n", 1)
    other = json.dumps(
        {key: value for key, value in json.loads(head).items() if key != "kv_groups"} | {"engine": "sglang"}
    )
    (tmp_path / "rec" / path.name).write_text(f"{other}\n{lines}")
    config = configured(tmp_path)
    with pytest.raises(
        ValueError, match="a recording of vLLM, whose scheduler is what is simulated; dp0-.* is of sglang"
    ):
        fitted_engine(config)
    assert len(freeze_trace(config.workload, 0, 2048, MAX_LEN).requests) == 300


def test_what_the_recording_says_of_the_engine_cannot_be_said_otherwise(
    recorded: tuple[Path, Outcome],
) -> None:
    config = configured(recorded[0])
    typed = {
        "engine.num_blocks": 30, "engine.sim.calibration": "uncalibrated", "engine.sim.async_scheduling": False,
        "engine.sim.hardware": "l4", "workload.source.path": "x",
    }  # fmt: skip
    assert set(idle_ones(typed, idle_recorded_keys(config))) == set(list(typed)[:3])


def test_a_head_that_does_not_say_all_of_the_engine_is_one_line(
    recorded: tuple[Path, Outcome], tmp_path: Path
) -> None:
    (path,) = (recorded[0] / "rec").iterdir()
    (tmp_path / "rec").mkdir()
    head, lines = path.read_text().split("\n", 1)
    less = {key: value for key, value in json.loads(head).items() if key not in ("kv_groups", "scheduler")}
    (tmp_path / "rec" / path.name).write_text(f"{json.dumps(less)}\n{lines}")
    with pytest.raises(
        ValueError, match="must be a recording that says kv_groups, scheduler of its engine; dp0-"
    ):
        fitted_engine(configured(tmp_path))


@pytest.mark.parametrize(
    ("decided", "words"),
    [
        ({"admission": "sjf"}, "strategy='stock': must be stock with admission sjf, under which"),
        (
            {"strategy": "lcf", "kill_switch": False},
            "strategy='stock': must be lcf and stock, under which .*record under one",
        ),
    ],
)
def test_what_was_replaced_or_switched_off_for_a_while_is_seen(
    recorded: tuple[Path, Outcome], tmp_path: Path, decided: dict[str, Any], words: str
) -> None:
    (path,) = (recorded[0] / "rec").iterdir()
    (tmp_path / "rec").mkdir()
    lines = path.read_text().splitlines()
    (place,) = (n for n, line in enumerate(lines) if line.startswith('{"type":"strategy"'))
    own = json.loads(lines[place]) | {"kill_switch": False} | decided
    before = [json.dumps(json.loads(lines[place]))] if "strategy" in decided else []
    lines[place : place + 1] = [*before, json.dumps(own)]
    (tmp_path / "rec" / path.name).write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=words):
        fitted_engine(configured(tmp_path))


def test_of_several_starts_the_answer_says_which_one_it_is_of(
    recorded: tuple[Path, Outcome], tmp_path: Path
) -> None:
    (path,) = (recorded[0] / "rec").iterdir()
    assert fit_facts(fitted_engine(configured(recorded[0])))["text"].startswith("step times are fitted")
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / path.name).write_text(path.read_text())
    fewer = [line for line in path.read_text().splitlines() if not line.startswith('{"type":"request"')]
    fewer.append(next(line for line in path.read_text().splitlines() if line.startswith('{"type":"request"')))
    (tmp_path / "rec" / "recording-dp1-20260921T000000-0000-000001.jsonl").write_text("\n".join(fewer) + "\n")
    found = fitted_engine(configured(tmp_path))
    assert found.left_out == 1 and len(found.latencies) == 300
    assert fit_facts(found)["text"].startswith(
        f"of 2 starts in the folder {found.name}, which has the most requests, alone"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["strategy=lcf"], "strategy='lcf': must be stock, under which .*rec' was recorded"),
        (["engine=vllm_shape"], "engine.kind='vllm': must be vllm_sim for a recording"),
    ],
)
def test_another_engine_or_strategy_is_refused(
    recorded: tuple[Path, Outcome], more: list[str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        fitted_engine(configured(recorded[0], *more))
