"""`run.until=precision`: a run has as many requests as its mean takes, and every strategy the same."""

from __future__ import annotations

import asyncio
import json
from itertools import count

import pytest
from sim_bench import compose_job
from test_sim_capacity import TINY, WORKLOAD

from ray_jobs.drive import lengths
from ray_jobs.drive.pilot import stock_job
from ray_jobs.drive.plan import plan_blocks

UNTIL = [*WORKLOAD, *TINY, "run.until=precision", "run.min_requests=100", "workload.num_requests=3200", "workload.warmup_requests=20"]  # fmt: skip


def job(*overrides: str):
    return compose_job(*UNTIL, *overrides)


@pytest.fixture()
def found(tiny_parts, tmp_path):
    """What is found for a job, and how many requests each run had that found it."""
    from ray_jobs.engines import make_backend

    number = count()

    def at(*overrides: str):
        one, sizes = job(*overrides), []
        backend = make_backend(one.engine, tmp_path)
        backend.parts = tiny_parts

        async def run(trace, limits):
            sizes.append(len(trace.requests))
            return await backend.run(trace, stock_job(one, limits), f"run-{next(number)}")

        return asyncio.run(lengths.search(one, run, lambda text: None)), sizes

    return at


def test_requests_double_until_the_mean_is_tight(found):
    calm, sizes = found("workload.rate=20", "run.precision=0.2")
    assert sizes == [100 * 2**i for i in range(len(sizes))] and calm.requests == sizes[-1] < 3200
    assert calm.half_width <= 0.2
    tighter, _ = found("workload.rate=20", "run.precision=0.1")
    assert tighter.requests > calm.requests


def test_a_p99_that_is_asked_for_takes_more_requests(found):
    mean, _ = found("workload.rate=20", "run.precision=0.2")
    tail, _ = found("workload.rate=20", "run.precision=0.2", "run.p99_precision=0.3")
    assert tail.requests >= 1000 > mean.requests and tail.p99_half_width <= 0.3


def test_a_queue_that_grows_runs_into_the_limit(found):
    flooded, sizes = found("workload.rate=5000", "run.precision=0.05", "workload.num_requests=700")
    assert sizes == [100, 200, 400, 700] and flooded.requests == 700 and flooded.half_width > 0.05


def test_all_strategies_and_seeds_get_the_same_length(tmp_path):
    jobs = [
        job(f"strategy={name}", f"seed={seed}", "workload.rate=20", f"capacity.folder={tmp_path}")
        for name in ("lcf", "bidkv")
        for seed in (0, 1)
    ]
    (key,) = {lengths.key_of(one) for one in jobs}
    assert key != lengths.key_of(job("workload.rate=21")) and key != lengths.key_of(job("run.precision=0.2"))
    (tmp_path / f"{key}.json").write_text(json.dumps({"requests": 200, "half_width": 0.04}))
    said = []
    resolved = lengths.resolve_lengths(jobs, said.append)
    assert [one.workload.num_requests for one in resolved] == [200] * 4
    assert said == ["mixed 20 req/s: 200 of at most 3200 requests give stock's mean E2E within 4.0%"]
    given = compose_job(*WORKLOAD, *TINY, "strategy=lcf", "workload.rate=20", "workload.num_requests=200", "workload.warmup_requests=20")  # fmt: skip
    (one,), (other,) = plan_blocks([resolved[0]])[0], plan_blocks([given])[0]
    assert one.config_hash == other.config_hash, "the same run as one whose number was given"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.until=soon", "run.until='soon': must be one of requests, precision"),
        ("run.precision=0", "run.precision"),
        ("run.p99_precision=0", "run.p99_precision=0"),
        ("run.min_requests=4000", "run.min_requests=4000: must be.*at most workload.num_requests=3200"),
        ("workload.warmup_requests=100", "run.min_requests=100: must be above workload.warmup_requests=100"),
    ],
)
def test_bad_limits_are_one_line(override, words):
    with pytest.raises(ValueError, match=words):
        job(override)
