"""Records that are not complete: the run fails and says what is missing."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest
from sim_bench import preemptions, random_trace, run, variant

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.records import IncompleteRecordsError, check_records

SETTINGS = AdapterSettings("preempt-evict", run_id="test")


@pytest.mark.parametrize("kib", [1, 40])
def test_a_full_disk_fails_the_run(tiny_parts, tmp_path, kib):
    """Nothing of the run reaches the disk but its first few records."""
    parts, trace = variant(tiny_parts, blocks=60), random_trace(1, 60)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, hard))
    try:
        with pytest.raises(IncompleteRecordsError, match="no run_end record after|records were made"):
            run(parts, trace, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def whole(tiny_parts, tmp_path_factory) -> Any:
    outcome = run(variant(tiny_parts, blocks=60), random_trace(1, 60), tmp_path_factory.mktemp("whole"))
    assert len(preemptions(outcome)) >= 10
    return outcome


def without(kind: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def drop(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = max(i for i, event in enumerate(events) if event["type"] == kind)
        return events[:last] + events[last + 1 :]

    return drop


def with_end(**changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda events: [*events[:-1], events[-1] | changes]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("run_end"), "no run_end record after"),
        (without("preempt"), "preempt records were made"),
        (without("request"), "60 request records were made, 59 are there"),
        (with_end(arrivals=61), "61 requests arrived, 60 have ended"),
        (with_end(step_records=1), "1 step records were made"),
        (lambda events: events[:1], "no run_end record after 1 records"),
    ],
)
def test_what_is_missing_is_named(whole, change, words):
    check_records(SETTINGS, whole.events, whole.logs, whole.events[-1]["step_records"])
    with pytest.raises(IncompleteRecordsError, match=words):
        check_records(SETTINGS, change(whole.events), whole.logs, whole.events[-1]["step_records"])


def test_an_answer_without_a_record_is_named_and_a_request_that_never_arrived_is_not(whole):
    name = whole.logs[0].request.request_id
    events = [e for e in whole.events if e.get("id") != name]
    events = with_end(requests=59, arrivals=59)(events)
    with pytest.raises(IncompleteRecordsError, match=f"1 answered requests have no record.*{name}"):
        check_records(SETTINGS, events, whole.logs)
    check_records(SETTINGS, events, whole.logs[1:])


def test_another_run_is_not_this_one(whole):
    with pytest.raises(RuntimeError, match="'preempt-evict' was not installed"):
        check_records(AdapterSettings("preempt-evict", run_id="other"), whole.events, whole.logs)
