"""Sessions as the load generator and the virtual clients send them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ray_jobs.engines.shared.answers import LiveAnswers
from ray_jobs.engines.shared.load import LoadGenerator
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.workload.trace import Trace, TraceRequest


def request(name: str, *parents: str, think: float = 0.0, prompt=(5, 6), session: str = "s") -> TraceRequest:
    return TraceRequest(name, 0.0, list(prompt), 2, 2, session=session, parents=parents, think_time_s=think)


def talk(think: float = 0.05) -> Trace:
    """A turn that starts a sub-agent of two turns, and a turn that waits for it; and another session."""
    requests = (
        request("main"),
        request("other", session="o"),
        request("sub-0", "main"),
        request("sub-1", "sub-0"),
        request("next", "main", "sub-1", think=think),
    )
    return Trace("talk", 0, requests)


def send(trace: Trace, broken: str = "", live: bool = False):
    order, prompts = [], {}

    async def generate(sent):
        order.append(sent.request_id)
        prompts[sent.request_id] = sent.prompt_token_ids
        if sent.request_id == broken:
            raise ConnectionError("gone")
        await asyncio.sleep(0.001)
        yield [70]
        await asyncio.sleep(0.001)
        yield [71]

    load = LoadGenerator(trace, generate, request_timeout_s=60, run_timeout_s=60, live_answers=live)
    status = asyncio.run(load.run())
    return status, {log.request.request_id: log for log in load.logs}, order, prompts


def test_turns_are_sent_when_the_answers_they_wait_for_are_complete() -> None:
    status, logs, order, _ = send(talk())
    assert status == "finished" and {log.status for log in logs.values()} == {"ok"}
    assert sorted(order[:2]) == ["main", "other"] and order[2:] == ["sub-0", "sub-1", "next"]
    assert logs["sub-0"].scheduled_t == logs["main"].finish_t
    thought = logs["main"].finish_t + 0.05
    assert logs["next"].scheduled_t == max(thought, logs["sub-1"].finish_t)
    assert all(log.sent_t >= log.scheduled_t for log in logs.values())


def test_a_turn_that_fails_ends_its_session_and_no_other() -> None:
    status, logs, _, _ = send(talk(), broken="sub-0")
    assert status == "finished"
    assert {name: log.status for name, log in logs.items()} == {
        "main": "ok", "other": "ok", "sub-0": "error", "sub-1": "unsent", "next": "unsent",
    }  # fmt: skip


def test_live_answers_take_the_place_of_the_recorded_ones() -> None:
    trace = Trace(
        "live",
        0,
        (
            request("a", prompt=(1, 2, 3)),
            request("b", "a", prompt=(1, 2, 3, 8, 9, 4)),
            request("c", "b", prompt=(1, 2, 3, 8, 9, 4, 8, 9, 5)),
            request("new", "b", prompt=(6, 7)),  # a context of its own
        ),
    )
    _, logs, _, prompts = send(trace, live=True)
    assert {log.status for log in logs.values()} == {"ok"}
    assert prompts["b"].tolist() == [1, 2, 3, 70, 71, 4]
    assert prompts["c"].tolist() == [1, 2, 3, 70, 71, 4, 70, 71, 5]
    assert prompts["new"].tolist() == [6, 7]
    _, _, _, recorded = send(trace)
    assert all(np.array_equal(recorded[r.request_id], r.prompt_token_ids) for r in trace.requests)


def test_a_recorded_prompt_that_ends_before_the_answer_does_stays() -> None:
    first, cut = request("a", prompt=(1, 2, 3)), request("b", "a", prompt=(1, 2, 3, 8))
    answers = LiveAnswers([first, cut])
    answers.prompt_of(first)
    answers.said("a", [70, 71])
    assert answers.prompt_of(cut) is cut


def test_virtual_clients_send_the_same_turns() -> None:
    clients = VirtualClients(talk(think=2.0), request_timeout_s=100.0)
    sent = [[log.request.request_id for log in clients.send(0.0)]]
    assert clients.next_send() is None
    for now, done in ((1.0, "main"), (1.5, "sub-0"), (1.75, "sub-1")):
        clients.receive(done, 2, True, now)
        sent.append([log.request.request_id for log in clients.send(now)])
    assert sent == [["main", "other"], ["sub-0"], ["sub-1"], []]
    assert clients.next_send() == 3.0
    (log,) = clients.send(3.5)
    assert (log.request.request_id, log.scheduled_t, log.sent_t) == ("next", 3.0, 3.0)


@pytest.mark.parametrize("late", ["main", "sub-0"])
def test_virtual_clients_end_a_session_whose_turn_timed_out(late: str) -> None:
    clients = VirtualClients(talk(), request_timeout_s=10.0)
    list(clients.send(0.0))
    if late != "main":
        clients.receive("main", 2, True, 1.0)
        list(clients.send(1.0))
    clients.receive("other", 2, True, 1.0)
    assert list(clients.give_up(50.0)) == [late]
    assert clients.next_send() is None and not clients.live
    statuses = {log.request.request_id: log.status for log in clients.logs}
    assert statuses[late] == "timeout" and statuses["next"] == statuses["sub-1"] == "unsent"
