"""The simulated engine as a benchmark engine: the same results, from the same driver."""

from __future__ import annotations

import asyncio

import pytest
from sim_bench import compose_job

from ray_jobs.drive.plan import frozen
from tracking.metrics.catalogue import compute_metrics, run_flags
from tracking.result import REQUEST_COLUMNS, RunResult

LOAD = ["workload=h100_mixed", "workload.rate=14", "workload.num_requests=120", "workload.warmup_requests=10"]


@pytest.fixture(scope="module")
def backend_and_job(tmp_path_factory):
    from ray_jobs.engines import make_backend

    job = compose_job(
        *LOAD, "engine.num_blocks=600", "engine.max_num_seqs=32", "engine.sim.check=true", "strategy=lcf"
    )
    backend = make_backend(job.engine, tmp_path_factory.mktemp("engine"))
    backend.environment = asyncio.run(backend.start())
    return backend, job


@pytest.fixture(scope="module")
def result(backend_and_job) -> RunResult:
    backend, job = backend_and_job
    return asyncio.run(backend.run(frozen(job), job, "one"))


def test_the_environment_says_that_it_is_simulated(backend_and_job):
    environment = backend_and_job[0].environment
    assert environment["engine"] == "vllm_sim" and environment["scheduler"] == "async"
    assert environment["device"] == "simulated H100-SXM"


def test_the_result_has_the_shape_of_a_real_engines(result, tmp_path):
    assert result.status == "finished" and tuple(result.requests.columns) == REQUEST_COLUMNS
    assert (result.requests["status"] == "ok").all() and result.requests["warmup"].sum() == 10
    assert [e["type"] for e in result.events][:1] == ["run_start"] and result.events[-1]["type"] == "run_end"
    assert result.requests["preemptions"].sum() == sum(e["type"] == "preempt" for e in result.events) > 0
    result.save(tmp_path)
    loaded = RunResult.load(tmp_path)
    assert len(loaded.steps) == len(result.steps) and loaded.events == result.events
    assert list(loaded.requests["itl_s"][0]) == list(result.requests["itl_s"][0])


def test_metrics_and_flags_come_from_virtual_time(backend_and_job, result):
    metrics = compute_metrics(result, backend_and_job[1].slo)
    assert 500 < metrics["throughput_tok_s"] < 3000
    assert metrics["send_lag_max_s"] == 0.0
    assert metrics["kv_util_max"] > 0.9 and metrics["hol_blocked_s"] > 0
    assert "select_us_mean" not in metrics or metrics["select_us_mean"] != metrics["select_us_mean"]
    assert run_flags(result)["pressure"] == "ok"


def test_nothing_in_the_records_depends_on_this_machine(backend_and_job, result):
    backend, job = backend_and_job
    asyncio.run(backend.run(frozen(job), job, "two"))
    logs = [
        (backend.folder / f"{run}.events.jsonl").read_text().replace(run, "run") for run in ("one", "two")
    ]
    assert logs[0] == logs[1] and "_ns" not in logs[0]


OF_SGLANG = [
    "hardware@engine.sim.hardware=h200-sxm", "model_shape@engine.sim.model_shape=qwen2.5-32b",
    "calibration@engine.sim.calibration=h200-qwen2.5-32b-sglang-0.5.17",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ([], "h100-llama-3.1-8b-vllm-0.26"),
        (["hardware@engine.sim.hardware=l4"], "not with this model and device"),
        (["calibration@engine.sim.calibration=uncalibrated"], "nobody measured it"),
        (OF_SGLANG, "measured with steps of sglang, not of vllm"),
    ],
)
def test_a_guess_is_called_a_guess(overrides, label):
    assert compose_job(*overrides).engine.sim.calibration_for("vllm").rstrip(")").endswith(label)
