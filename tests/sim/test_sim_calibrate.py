"""Fitting the step-time model: known factors are found again, and bad input is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from sim_bench import CONF, compose_job
from test_sim_models import hardware, shape

from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.fit import fit, split, step_periods
from ray_jobs.engines.sim.roofline import StepTimeModel

TRUTH = Calibration(
    compute_efficiency=0.5, bandwidth_efficiency=0.7, attention_compute_efficiency=0.3,
    attention_bandwidth_efficiency=0.5, step_overhead_s=2e-3, request_overhead_s=2e-5, prefill_overhead_s=1e-4,
)  # fmt: skip


def step_log(
    seed: int, count: int, noise: float, truth: Calibration = TRUTH, gap: float = 0.0
) -> pd.DataFrame:
    """Steps of an imagined H100 with the 8B shape; `gap` seconds between them do not count into `dur`."""
    draw = np.random.default_rng(seed)
    decodes = draw.integers(1, 200, count)
    prefills = draw.integers(0, 4, count) * (draw.random(count) < 0.4)
    steps = pd.DataFrame(
        {"step": np.arange(count), "decode_reqs": decodes, "decode_tokens": decodes, "prefill_reqs": prefills}
    )
    steps["prefill_tokens"] = prefills * draw.integers(50, 2500, count)
    steps["prefill_context"] = prefills * draw.integers(0, 500, count)
    steps["context_tokens"] = steps["prefill_context"] + decodes * draw.integers(50, 4000, count)
    seconds = StepTimeModel(shape("llama-3.1-8b"), hardware("h100-sxm"), truth).seconds_of(steps)
    seconds = seconds * draw.lognormal(-(noise**2) / 2, noise, count)
    steps["dur"] = seconds - gap
    steps["t"] = np.concatenate([[0.0], np.cumsum(seconds)[:-1]])
    return steps


def test_known_factors_are_found_again():
    fitted, _, held = fit(
        [step_log(0, 1500, 0.03)], shape("llama-3.1-8b"), hardware("h100-sxm"), Calibration(), hold_out=0.25
    )
    for name in (
        "compute_efficiency",
        "bandwidth_efficiency",
        "attention_bandwidth_efficiency",
        "step_overhead_s",
    ):
        assert getattr(fitted, name) == pytest.approx(getattr(TRUTH, name), rel=0.15), name
    assert abs(held.total) < 0.01 and held.median < 0.03
    assert held.steps == pytest.approx(500 * 0.75, rel=0.05)


def test_factors_keep_to_what_kernels_reach_and_what_the_steps_do_not_tell_is_named():
    truth = replace(TRUTH, compute_efficiency=0.97)
    log = step_log(7, 1500, 0.03, truth)
    log.loc[:, ["decode_reqs", "decode_tokens"]] = 4
    log["context_tokens"] = log["prefill_context"] + 400
    seconds = StepTimeModel(shape("llama-3.1-8b"), hardware("h100-sxm"), truth).seconds_of(log)
    log["dur"] = seconds * np.random.default_rng(8).lognormal(0, 0.05, len(log))
    log["t"] = np.concatenate([[0.0], np.cumsum(log["dur"])[:-1]])
    fitted, *_ = fit([log], shape("llama-3.1-8b"), hardware("h100-sxm"), Calibration(), hold_out=0.25)
    assert fitted.compute_efficiency <= 0.85 and fitted.attention_compute_efficiency <= 0.75
    assert {"compute_efficiency", "attention_bandwidth_efficiency"} <= set(fitted.origin["not_told"])
    assert fitted.origin["reach"]["decode_reqs"] == 4


def test_stalls_do_not_spoil_the_fit():
    log = step_log(1, 1500, 0.03)
    log.loc[log.index % 300 == 0, "dur"] += 3.0
    log["t"] = np.concatenate([[0.0], np.cumsum(log["dur"])[:-1]])
    fitted, *_ = fit([log], shape("llama-3.1-8b"), hardware("h100-sxm"), Calibration(), hold_out=0.25)
    clean = step_log(2, 500, 0.0)
    model = StepTimeModel(shape("llama-3.1-8b"), hardware("h100-sxm"), fitted)
    assert model.seconds_of(clean).sum() == pytest.approx(clean["dur"].sum(), rel=0.06)


def test_time_between_steps_counts_while_there_is_work():
    log = step_log(3, 400, 0.0, gap=1e-3)
    idle = 200
    log.loc[log["step"] >= idle, "t"] += 60.0  # nobody sends for a minute
    log.loc[idle, ["decode_reqs", "decode_tokens"]] = 0
    log.loc[idle, ["prefill_reqs", "prefill_tokens"]] = (1, 100)
    periods = step_periods(log)
    assert (periods["seconds"] - periods["dur"]).to_numpy() == pytest.approx(np.full(400, 1e-3))


def test_the_steps_of_each_replica_are_timed_by_themselves():
    one = step_log(5, 60, 0.0, gap=1e-3).assign(replica=0)
    other = one.assign(replica=1, t=one["t"] + 0.0003)
    alone, both = step_periods(one), step_periods(pd.concat([one, other]))
    assert both["seconds"].to_numpy() == pytest.approx([*alone["seconds"], *alone["seconds"]])
    assert both["window"].is_unique


def test_overlapping_steps_have_no_gap():
    log = step_log(4, 300, 0.0)
    log["t"] = np.concatenate([[0.0, 0.0], np.cumsum(log["dur"])[:-2]])  # scheduled one step ahead
    assert step_periods(log)["seconds"].to_numpy() == pytest.approx(log["dur"].to_numpy())


def test_time_that_overlapping_steps_shift_to_their_neighbours_does_not_matter():
    truth = replace(TRUTH, prefill_step_s=0.015, prefill_overhead_s=0.0)
    log = step_log(5, 4000, 0.02, truth)
    end = np.cumsum(log["dur"])
    log["t"] = np.concatenate([[0.0, 0.0], end[:-2]])  # scheduled one step ahead
    shifted = np.minimum(log["dur"], 0.01) * (log["prefill_reqs"] > 0)  # shows up in the step before
    log["dur"] += np.append(shifted[1:], 0.0) - shifted
    fitted, _, held = fit([log], shape("llama-3.1-8b"), hardware("h100-sxm"), Calibration(), hold_out=0.25)
    assert held.window == 16 and held.median < 0.03
    clean = step_log(6, 1000, 0.0, truth)
    seconds = StepTimeModel(shape("llama-3.1-8b"), hardware("h100-sxm"), fitted).seconds_of(clean)
    for kind in (clean["prefill_reqs"] > 0, clean["prefill_reqs"] == 0):
        assert seconds[kind].sum() == pytest.approx(clean.loc[kind, "dur"].sum(), rel=0.05)


def test_held_out_steps_are_whole_stretches_of_the_run():
    for window in (1, 10):
        train, held = split(pd.DataFrame({"window": np.arange(1000) // window}), 0.25)
        assert len(held) == 250 and len(train) + len(held) == 1000
        assert len({i // 50 for i in held.index}) == 5


def run_calibrate(*overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ray_jobs.calibrate", *overrides],
        cwd=CONF.parent, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_the_command_writes_a_fit_the_simulator_takes(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    step_log(0, 1200, 0.05).to_parquet(folder / "steps.parquet")
    environment = {"engine": "vllm", "engine_version": "9.9", "device": "A GPU", "cpu": "a CPU"}
    (folder / "run.json").write_text(json.dumps({"environment": environment}))
    lines = step_log(1, 300, 0.05).to_dict("records")
    (folder / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "fit.yaml"
    done = run_calibrate(f"steps=[{folder},{folder}/more.jsonl]", "name=a-gpu", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert "error on" in done.stdout and "held-out steps" in done.stdout
    written = yaml.safe_load(out.read_text())
    assert written["fitted"] and written["name"] == "a-gpu"
    origin = written["origin"]
    assert origin["engine_version"] == "9.9" and origin["model_shape"] == "llama-3.1-8b"
    assert len(origin["steps_sha256"]) == 64 and abs(origin["held_out_steps"]["total"]) < 0.05
    values = {key: value for key, value in written.items() if key != "origin"}
    fields = [f"engine.sim.calibration.{key}={value}" for key, value in values.items()]
    job = compose_job("calibration@engine.sim.calibration=uncalibrated", *fields)
    assert job.engine.sim.calibration == replace(Calibration(**values))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["steps=[/nowhere/steps.jsonl]", "name=x"],
            "must be a steps file, a run's folder or an MLflow run id",
        ),
        (["steps=[]", "name=x"], "steps=[]: must be at least one step log"),
        (["steps=[{folder}]", "name=a/b"], "name='a/b': must be letters"),
        (["steps=[{folder}]", "name=x", "hold_out=0.9"], "hold_out=0.9: must be in (0, 0.5]"),
        (["steps=[{folder}]", "name=x"], "need at least 100"),
        (["steps=[{folder}/other.parquet]", "name=x"], "not a step log: no column"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, overrides, message):
    step_log(0, 30, 0.0).to_parquet(tmp_path / "steps.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    out = tmp_path / "fit.yaml"
    done = run_calibrate(*(o.format(folder=tmp_path) for o in overrides), f"out={out}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()
