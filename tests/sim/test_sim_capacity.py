"""The capacity of an engine: the search finds what going through all rates finds, and loads become numbers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from sim_bench import compose_job

from ray_jobs.drive import capacity as found
from ray_jobs.drive.capacity_search import Bisection, Probe, measure, saturated, spread
from ray_jobs.drive.pilot import stock_job
from ray_jobs.drive.plan import plan_blocks

WORKLOAD = ["workload=mixed", "workload.length_scale=0.1", "workload.fit=truncate"]
TINY = [
    "model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu",
    "engine.max_model_len=512", "engine.num_blocks=64", "engine.max_num_batched_tokens=512", "engine.max_num_seqs=16",
    "capacity.requests=300",
]  # fmt: skip


@pytest.fixture()
def engine(tiny_parts, tmp_path):
    """The tiny engine's job, and what runs a trace on it and counts."""
    from ray_jobs.engines import make_backend

    job = compose_job(*WORKLOAD, *TINY, f"capacity.folder={tmp_path}")
    backend = make_backend(job.engine, tmp_path)
    backend.parts = tiny_parts
    runs = []

    async def run(trace, limits):
        runs.append(trace)
        return await backend.run(trace, stock_job(job, limits), f"run-{len(runs)}")

    return job, run, runs


def test_the_search_finds_what_all_rates_show(engine):
    job, run, runs = engine
    capacity = asyncio.run(found.search(job, run, lambda text: None))
    assert capacity.runs == len(runs) <= 12
    trace = found.probe_trace(job)
    _, seats = saturated(asyncio.run(run(spread(trace, None, 0), replace(job.run, timeout_s=1e6))))
    stable = []
    for share in np.arange(0.95, 1.07, 0.01):
        rate = capacity.rate * share
        at_rate = spread(trace, rate, seats + seats // 2)
        end = at_rate.requests[-1].arrival_s
        probe = measure(asyncio.run(run(at_rate, replace(job.run, timeout_s=end))), rate, end)
        stable.append((rate, probe.stable))
    highest = next(before for (before, _), (_, ok) in zip(stable, stable[1:], strict=False) if not ok)
    assert capacity.rate == pytest.approx(highest, rel=0.03)
    assert not stable[-1][1]


@pytest.mark.parametrize("true", [1.0, 7.3, 900.0])
@pytest.mark.parametrize("off", [0.5, 0.9, 1.0, 1.2, 2.0])
def test_a_bad_guess_costs_runs_but_not_precision(true, off):
    bisection = Bisection(true * off, precision=0.02)
    while (rate := bisection.next_rate()) is not None:
        bisection.add(Probe(rate, 0.0, 0.0, growth=1.0 if rate > true else 0.0))
    assert bisection.stable <= true <= bisection.stable * 1.02
    assert len(bisection.probes) <= 11


def share(*overrides):
    return compose_job(*WORKLOAD, *TINY, "workload.num_requests=30", "workload.warmup_requests=0", *overrides)


def test_a_share_becomes_the_number_and_its_trace_is_that_of_the_number(tmp_path):
    job = share("workload.load=80%", "workload.rate=3", f"capacity.folder={tmp_path}")
    assert job.workload.rate is None, "a share of the capacity takes the place of a rate"
    kept = tmp_path / f"{found.key_of(job)}.json"
    kept.write_text(json.dumps({"rate": 10.0, "saturated": 9.9, "probes": []}))
    others = [
        share(f"workload.load={load}", f"capacity.folder={tmp_path}", "seed=4") for load in ("95%", "110%")
    ]
    jobs = found.resolve_loads([job, *others], print)
    assert [j.workload.rate for j in jobs] == [8.0, 9.5, 11.0], "found once for all seeds and loads"
    (planned,) = plan_blocks([jobs[0]])[0]
    (number,) = plan_blocks([share("workload.rate=8")])[0]
    assert planned.trace.hash == number.trace.hash and "80% (8 req/s)" in planned.name


def test_other_engines_and_mixes_have_capacities_of_their_own():
    base = found.key_of(share("workload.load=80%"))
    for same in (
        "workload.load=95%",
        "workload.arrivals.kind=gamma",
        "seed=3",
        "workload.num_requests=40",
        "strategy=lcf",
    ):
        assert (
            found.key_of(share("workload.load=80%", same) if "load=" not in same else share(same)) == base
        ), same
    for other in ("engine.num_blocks=65", "workload.length_scale=0.2", "capacity.seed=1"):
        assert found.key_of(share("workload.load=80%", other)) != base, other


def test_clients_that_wait_have_no_share_of_a_capacity():
    with pytest.raises(ValueError, match="workload.load='95%'.*closed_loop"):
        compose_job("workload=closed_loop", "workload.load=95%")
    with pytest.raises(ValueError, match="workload.load='most'.*95%"):
        compose_job("workload=mixed", "workload.load=most")


def test_a_replay_is_stretched_to_its_share(tmp_path):
    from ray_jobs.workload.freeze import freeze_trace

    saved = freeze_trace(share("workload.rate=5").workload, 0, 2048, 512)
    saved.save(tmp_path / "trace.parquet")
    job = compose_job(
        "workload=frozen", f"workload.source.path={tmp_path}/trace.parquet", "workload.load=50%", "workload.num_requests=null", "workload.warmup_requests=0", "workload.capacity=20"
    )  # fmt: skip
    times = np.array([r.arrival_s for r in freeze_trace(job.workload, 0, 2048, 512).requests])
    assert (len(times) - 1) / times[-1] == pytest.approx(10.0)
    recorded = np.array([r.arrival_s for r in saved.requests])
    assert np.allclose(times / times[-1], recorded / recorded[-1])


def test_the_capacity_of_a_file_is_that_of_all_its_windows(tmp_path):
    path = tmp_path / "log.csv"
    rows = [
        f"2026-11-28 10:00:{n // 100:02d}.{n % 100:02d}0000,{10 if n < 500 else 900},5" for n in range(1000)
    ]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    job = compose_job(
        "workload=azure_conv", f"workload.source.path={path}", "workload.num_requests=100", "workload.warmup_requests=0",
        "workload.load=95%", "engine.max_model_len=2048",
    )  # fmt: skip
    prompts = np.array([len(r.prompt_token_ids) for r in found.probe_trace(job).requests])
    assert len(prompts) == 100
    for quarter in np.split(
        prompts, 4
    ):  # the queue's growth is that of the load, not of what is in the file where
        assert 0.3 < (quarter == 900).mean() < 0.7
    whole = replace(job, workload=replace(job.workload, source=replace(job.workload.source, pick="head")))
    assert found.key_of(whole) != found.key_of(job)


def test_a_random_sample_of_a_file_is_mixed_and_has_a_key_of_its_own(tmp_path):
    """Else its second half can be less work than the first, and a rate read as stable that is not."""
    path = tmp_path / "log.csv"
    rows = [f"2026-11-28 10:00:{n // 100:02d}.{n % 100:02d}0000,{n + 1},5" for n in range(1000)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    job = compose_job(
        "workload=azure_conv", f"workload.source.path={path}", "workload.num_requests=100", "workload.warmup_requests=0",
        "workload.load=95%", "engine.max_model_len=2048", "workload.source.pick=random", "workload.arrivals.kind=poisson",
    )  # fmt: skip
    prompts = np.array([len(r.prompt_token_ids) for r in found.probe_trace(job).requests])
    means = [quarter.mean() / prompts.mean() for quarter in np.split(prompts, 4)]
    assert means == pytest.approx([1.0] * 4, abs=0.1)
    ordered = replace(job, workload=replace(job.workload, source=replace(job.workload.source, pick="head")))
    assert found.key_of(ordered) != found.key_of(job)


def test_a_real_engine_is_asked_in_few_and_short_runs():
    real = compose_job(*WORKLOAD, "workload.load=95%", "engine=vllm_cpu")
    simulated = compose_job(*WORKLOAD, "workload.load=95%")
    assert found.limits_of(real).precision == 0.1 > found.limits_of(simulated).precision == 0.02
    assert len(found.probe_trace(real).requests) == 300 < len(found.probe_trace(simulated).requests)
    bisection = Bisection(7.0, found.limits_of(real).precision)
    while (rate := bisection.next_rate()) is not None:
        bisection.add(Probe(rate, 0.0, 0.0, growth=1.0 if rate > 6.5 else 0.0))
    assert len(bisection.probes) <= 3
    assert (
        found.limits_of(compose_job(*WORKLOAD, "engine=vllm_cpu", "capacity.precision=0.05")).precision
        == 0.05
    )
