"""Are a run's records all there? A run that lost some has failed: what is missing would count as zeros."""

from __future__ import annotations

from collections import Counter

from tracking.result import RunResult

REACHED_THE_SCHEDULER = ("ok", "timeout")  # an "error" may be the engine's refusal to take the request
STEPS_IN_FLIGHT = (
    8  # of an engine at a run's end: scheduled and counted, but nothing waits for their outputs any more
)


def check_complete(result: RunResult) -> list[str]:
    """What is missing, a line each; none if the records are complete. Marks the result as failed if not.

    A complete run has one `run_start` and one `run_end`, as many events and steps as `run_end` counted,
    none counted as lost (a counter that ends in `lost`), a `request` record for every request that
    reached the scheduler, and for each as many preemptions in its record as there are events. An engine
    that was started without the adapter (`recorded` is False) owes none.
    """
    if not result.recorded:
        return []
    missing = [*_frame(result), *_counts(result), *_request_records(result)]
    if missing:
        result.status = "failed"
        result.error = "records are not complete: " + "; ".join(missing)
    return missing


def _frame(result: RunResult) -> list[str]:
    found = Counter(event["type"] for event in result.events)
    return [
        f"{found[kind]} {kind} records, expected 1" for kind in ("run_start", "run_end") if found[kind] != 1
    ]


def _counts(result: RunResult) -> list[str]:
    """Events against the counters of `run_end`."""
    end = next((event for event in result.events if event["type"] == "run_end"), None)
    if end is None:
        return []
    found = Counter(event["type"] for event in result.events)
    by_source = Counter(f"preemptions_by_{e['source']}" for e in result.events if e["type"] == "preempt")
    counted = {"preemptions": found["preempt"], "control_errors": found["control_error"], **by_source}
    missing = [
        f"{number} {name} recorded, run_end counts {end[name]}"
        for name, number in counted.items()
        if name in end and end[name] != number
    ]
    steps = len(result.steps)
    in_flight = STEPS_IN_FLIGHT * result.run_start.get("replicas", 1)
    if steps and "steps" in end and not end["steps"] - in_flight <= steps <= end["steps"]:
        missing.append(f"{steps} steps recorded, run_end counts {end['steps']}")
    lost = {name: number for name, number in end.items() if name.endswith("lost") and number}
    return missing + [f"{number} {name.replace('_', ' ')}" for name, number in lost.items()]


def _request_records(result: RunResult) -> list[str]:
    """Requests that reached the scheduler against their records, and those against the preemptions."""
    records = {event["id"]: event for event in result.events if event["type"] == "request"}
    table = result.requests
    sent = table.loc[
        table["sent_t"].notna() & table["status"].isin(REACHED_THE_SCHEDULER), "request_id"
    ].tolist()
    without = [name for name in sent if name not in records]
    missing = []
    if without:
        missing.append(f"{len(without)} of {len(sent)} requests without a record, such as {without[0]!r}")
    preempted = Counter(event["victim"] for event in result.events if event["type"] == "preempt")
    differ = [name for name, record in records.items() if record["preemptions"] != preempted[name]]
    if differ:
        name = differ[0]
        missing.append(
            f"{len(differ)} requests with other preemptions than events, such as {name!r}: "
            f"{records[name]['preemptions']} in its record, {preempted[name]} events"
        )
    return missing
