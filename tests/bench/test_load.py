"""The load generator against engines made of `asyncio.sleep`."""

from __future__ import annotations

import asyncio
import math
import time

import numpy as np
import pytest

from ray_jobs.engines.shared.load import LoadGenerator, Relayed
from ray_jobs.workload.trace import Trace, TraceRequest


def make_trace(arrivals, output_tokens=3, **kwargs):
    prompt = np.arange(4, dtype=np.int32)
    requests = tuple(
        TraceRequest(f"r{i}", t, prompt, output_tokens, output_tokens) for i, t in enumerate(arrivals)
    )
    return Trace(name="test", seed=0, requests=requests, meta={}, **kwargs)


def engine(delay_s, tokens=3):
    async def generate(request):
        for n in range(1, tokens + 1):
            await asyncio.sleep(delay_s)
            yield [n]

    return generate


def run(trace, generate, request_timeout_s=5.0, run_timeout_s=10.0):
    load = LoadGenerator(trace, generate, request_timeout_s, run_timeout_s)
    status = asyncio.run(load.run())
    return status, load.logs


def test_open_loop_does_not_wait_for_answers():
    arrivals = [0.0, 0.05, 0.1, 0.15]
    status, logs = run(make_trace(arrivals), engine(delay_s=0.2))  # each answer takes 0.6 s
    assert status == "finished"
    for log, arrival in zip(logs, arrivals, strict=True):
        assert log.scheduled_t == arrival
        assert 0 <= log.sent_t - arrival < 0.1
        assert log.status == "ok" and log.output_tokens == 3
        assert log.first_token_t - log.sent_t == pytest.approx(0.2, abs=0.1)
        assert log.itl_s == pytest.approx([0.2, 0.2], abs=0.1)
        assert log.finish_t - log.sent_t == pytest.approx(0.6, abs=0.2)


def test_what_is_passed_on_together_counts_from_when_each_left_the_engine():
    async def generate(request):
        left = [(time.perf_counter() + i / 100, [i]) for i in range(3)]
        await asyncio.sleep(0.3)
        yield Relayed(left)

    _, [log] = run(make_trace([0.0]), generate)
    assert log.status == "ok" and log.output_tokens == 3
    assert log.first_token_t - log.sent_t == pytest.approx(0.0, abs=0.1)
    assert log.itl_s == pytest.approx([0.01, 0.01], abs=1e-3)
    assert log.finish_t - log.first_token_t == pytest.approx(0.02, abs=1e-3)


def test_closed_loop_keeps_as_many_requests_open_as_users():
    open_now, most = 0, 0

    async def generate(request):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.05)
        yield [1] * request.output_tokens
        open_now -= 1

    status, logs = run(make_trace([0.0] * 8, closed_loop_users=2, think_time_s=0.02), generate)
    assert status == "finished" and most == 2
    assert [log.status for log in logs] == ["ok"] * 8
    assert logs[-1].scheduled_t > 0.15  # it was scheduled when its user was ready, not at 0
    assert all(log.sent_t - log.scheduled_t < 0.05 for log in logs)


def test_a_user_whose_answer_is_read_late_sends_late():
    """What was passed on late has left the engine in time: its latency says nothing of it, so the next send must."""

    async def generate(request):
        left = time.perf_counter()
        await asyncio.sleep(0.2)
        yield Relayed([(left, [1] * request.output_tokens)])

    status, logs = run(make_trace([0.0] * 3, closed_loop_users=1, think_time_s=0.01), generate)
    assert status == "finished" and [log.status for log in logs] == ["ok"] * 3
    for before, log in zip(logs, logs[1:], strict=False):
        assert log.scheduled_t == pytest.approx(before.finish_t + 0.01)
        assert log.sent_t - log.scheduled_t > 0.15


def test_users_of_an_engine_that_fails_at_once_share_the_loop():
    async def generate(request):
        raise ConnectionError("engine gone")
        yield

    async def both():
        load = LoadGenerator(make_trace([0.0] * 500, closed_loop_users=2), generate, 5.0, 10.0)
        other = asyncio.create_task(asyncio.sleep(0))
        other.add_done_callback(lambda _: seen.append(sum(log.status == "error" for log in load.logs)))
        assert await load.run() == "finished"
        assert {log.status for log in load.logs} == {"error"}

    seen = []
    asyncio.run(both())
    assert seen[0] < 500


BUSY = dict(
    rate=200.0, seconds=3.0, tokens=50
)  # 200 req/s, each a second of 50 chunks: 10,000 chunks a second


def busy_run():
    gaps = np.random.default_rng(0).exponential(1 / BUSY["rate"], int(BUSY["rate"] * BUSY["seconds"]))
    trace = make_trace(list(np.cumsum(gaps)), output_tokens=BUSY["tokens"])
    load = LoadGenerator(trace, engine(0.02, BUSY["tokens"]), request_timeout_s=60.0, run_timeout_s=60.0)
    assert asyncio.run(load.run()) == "finished"
    assert {log.status for log in load.logs} == {"ok"}
    return load


def test_200_streams_a_second_leave_the_generator_most_of_a_core():
    assert 0 < busy_run().cpu_s < 0.5 * BUSY["seconds"]


@pytest.mark.timing
def test_200_streams_a_second_are_sent_on_time():
    lags = [log.sent_t - log.scheduled_t for log in busy_run().logs]
    assert np.quantile(lags, 0.99) < 0.005


def test_slow_failed_and_short_answers_are_told_apart():
    async def generate(request):
        yield [1]
        if request.request_id == "r0":
            await asyncio.sleep(10)
        if request.request_id == "r1":
            raise ConnectionError("engine gone")

    status, logs = run(make_trace([0.0, 0.0, 0.0]), generate, request_timeout_s=0.2)
    assert status == "finished"
    assert [log.status for log in logs] == ["timeout", "error", "error"]
    assert logs[1].error == "ConnectionError: engine gone"
    assert logs[2].error == "1 output tokens, expected 3"
    assert all(math.isnan(log.finish_t) for log in logs[:2])


def test_the_run_deadline_ends_everything():
    status, logs = run(make_trace([0.0, 5.0]), engine(delay_s=3.0), run_timeout_s=0.2)
    assert status == "timeout"
    assert [log.status for log in logs] == ["timeout", "unsent"]
