"""Whether a run's records are all there: a full disk, a killed process or a lost line must never look like a calm run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.load import RequestLog


class IncompleteRecordsError(RuntimeError):
    """A run whose records do not add up; it has failed, whatever its clients saw."""


def check_records(
    settings: AdapterSettings,
    events: Sequence[Mapping[str, Any]],
    logs: Iterable[RequestLog],
    steps: int | None = None,
) -> None:
    """Raises `IncompleteRecordsError` that names what is missing.

    `events` are those of the run of `settings`; its last one, `run_end`, says how many records of each
    kind the engine made. `steps` are the step records at hand; None if they never went through a file.
    """
    kinds = Counter(event["type"] for event in events)
    if not events or events[0]["type"] != "run_start" or events[0]["run_id"] != settings.run_id:
        raise RuntimeError(
            f"strategy {settings.strategy!r} was not installed: no run_start record of this run"
        )
    if events[-1]["type"] != "run_end":
        raise IncompleteRecordsError(
            f"no run_end record after {len(events)} records: the engine died or could not write"
        )
    end = events[-1]
    made = {"preempt": end["preemptions"], "request": end["requests"]}
    missing = [
        f"{count} {kind} records were made, {kinds[kind]} are there"
        for kind, count in made.items()
        if kinds[kind] != count
    ]
    if steps is not None and steps != end["step_records"]:
        missing.append(f"{end['step_records']} step records were made, {steps} are there")
    if end["arrivals"] != end["requests"]:
        missing.append(f"{end['arrivals']} requests arrived, {end['requests']} have ended")
    recorded = {event["id"] for event in events if event["type"] == "request"}
    # Whoever arrived has a record, so an unanswered request without one never reached the scheduler.
    answered = [log.request.request_id for log in logs if log.status == "ok" or log.output_tokens]
    lost = [name for name in answered if name not in recorded]
    if lost:
        missing.append(f"{len(lost)} answered requests have no record, the first is {lost[0]!r}")
    if missing:
        raise IncompleteRecordsError(f"records are incomplete: {'; '.join(missing)}")
