"""The records an adapter leaves behind: JSON Lines files and the counters of one run."""

from __future__ import annotations

import errno
import json
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.meter import Meter
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.shared.victims import CANDIDATE
from bidkv.strategies.base import Strategy

logger = logging.getLogger(__name__)

COUNTED = (
    "steps", "arrivals", "requests", "preemptions", "unexecuted_choices", "strategy_errors", "control_errors",
)  # fmt: skip
"""What every `run_end` says how many there were of. `arrivals` reached the scheduler, `requests` left it; the engine did
not carry out `unexecuted_choices` of a victim."""


encoded = json.JSONEncoder(separators=(",", ":")).encode


class JsonLines:
    """Appends one record per line with one unbuffered write, so a killed process loses no line it wrote.

    A write that fails (disk full) is logged once; `lost` counts the records that are missing. No half of
    a record stays in the file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lost = 0
        self._file = open(self.path, "ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> None:
        line = encoded(record).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):  # the disk was full in the middle of it
                self._file.truncate(self._file.tell() - written)
                raise OSError(errno.ENOSPC, "no space left for a whole record")
        except OSError:
            if not self.lost:
                logger.exception("bidkv: cannot write to %s", self.path)
            self.lost += 1

    def close(self) -> None:
        self._file.close()


def read_events(path: str | Path) -> list[dict[str, Any]]:
    """Records of a JSON Lines file. A last line without its end (killed in mid-write) is left out."""
    *lines, _unfinished = Path(path).read_bytes().split(b"\n")
    return [json.loads(line) for line in lines]


def describe(settings: AdapterSettings, strategy: Strategy) -> str:
    """A strategy and its parameters, for people."""
    own = (settings.admission_params, settings.params, settings.retention_params)
    parts = [
        f"{policy.name} {dict(params)}" if params else policy.name
        for policy, params in zip(strategy.policies, own, strict=True)
    ]
    kept = (
        "" if strategy.retention.stock else f", retention {parts[2]}"
    )  # the engine's own is not worth a word
    text = (
        f"strategy {settings.strategy}: admission {parts[0]}, victim {parts[1]}{kept}, seed {settings.seed}"
    )
    return text + ("; the kill switch is on: the engine decides" if settings.kill_switch else "")


def switched(settings: AdapterSettings, now: float) -> str:
    if settings.kill_switch:
        over = settings.until is not None and now >= settings.until
        why = " (nobody said before its `until` that the strategy may go on)" if over else ""
        return f"kill switch on: the engine decides, not strategy {settings.strategy}{why}"
    return f"kill switch off: strategy {settings.strategy} decides"


class RunLog:
    """Counters and event file of one run: from one set of settings to the next.

    Opening may raise `OSError`; nothing is written before `start`. Preemptions happen inside a step that
    others wait for, so they are written after it: at the next `flush` or record of another kind.
    A `meter` is told of everything as well; it outlives the run.
    """

    def __init__(
        self, settings: AdapterSettings, clock: Callable[[], float] = time.time, meter: Meter | None = None
    ):
        self.settings = settings
        self._meter = meter
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._clock = clock
        self._events = JsonLines(settings.events_path) if settings.events_path else None
        self._waiting: list[Mapping[str, Any]] = []  # preemptions that are not written yet

    def start(self, strategy: Strategy, facts: Mapping[str, Any]) -> None:
        """Writes `run_start`. `facts` describe the engine: `engine`, `engine_version`, `engine_tested`,
        `scheduler`, `block_size`, `num_blocks`, `max_num_seqs`, `prefix_caching`."""
        settings = self.settings
        logger.info("bidkv: %s", describe(settings, strategy))
        if self._meter:
            self._meter.started(settings, strategy)
        self._write(
            {
                "type": "run_start",
                "run_id": settings.run_id,
                "strategy": settings.strategy,
                "admission": strategy.admission.name,
                "victim": strategy.victim.name,
                "retention": strategy.retention.name,
                "params": settings.params,
                "admission_params": settings.admission_params,
                "retention_params": settings.retention_params,
                "seed": settings.seed,
                "kill_switch": settings.kill_switch,
                **facts,
                "t": self._clock(),
            }
        )

    @property
    def records(self) -> bool:
        """Whether anybody reads the events of this run."""
        return self._events is not None

    @property
    def degraded(self) -> bool:
        """Whether the strategy failed at least once, so that results do not show it alone."""
        lost = self._events.lost if self._events else 0
        return self.counters["strategy_errors"] > 0 or lost > 0

    def preempt(self, record: Mapping[str, Any]) -> None:
        """A preemption; `record` follows the event schema, without `type`. Its candidates are rows, or
        what makes them when it is written."""
        self.counters["preemptions"] += 1
        self.counters[f"preemptions_by_{record['source']}"] += 1
        self.counters["select_ns"] += record["select_ns"]
        self.counters["hook_ns"] += record["hook_ns"]
        if self._events or self._meter:
            self._waiting.append(record)

    def unexecuted(self) -> None:
        """The engine did not preempt the victim that was chosen."""
        self.counters["unexecuted_choices"] += 1
        if self._meter:
            self._meter.unexecuted()

    def request(self, record: Mapping[str, Any]) -> None:
        """A request that left the engine."""
        self.counters["requests"] += 1
        if self._meter:
            self._meter.left(record)
        self._write({"type": "request", **record})

    def strategy_error(self, error: BaseException) -> None:
        """Logs the first error with its traceback and counts every one."""
        self.counters["strategy_errors"] += 1
        if self._meter:
            self._meter.strategy_error()
        if self.counters["strategy_errors"] == 1:
            text = "".join(traceback.format_exception(error))
            name = self.settings.strategy
            logger.error("bidkv: strategy %s failed; the engine chooses instead\n%s", name, text)
            record = {"type": "strategy_error", "error": repr(error), "traceback": text}
            self._write({**record, "t": self._clock()})

    def control_error(self, error: BaseException) -> None:
        """New settings that could not be used; the old ones stay."""
        self.counters["control_errors"] += 1
        if self._meter:
            self._meter.control_error()
        logger.error("bidkv: settings unchanged: %s", error)
        self._write({"type": "control_error", "error": str(error), "t": self._clock()})

    def kill_switch(self, settings: AdapterSettings) -> None:
        """The same run goes on with the strategy switched off or on again."""
        self.settings, now = settings, self._clock()
        logger.info("bidkv: %s", switched(settings, now))
        if self._meter:
            self._meter.switched(settings.kill_switch)
        self._write({"type": "kill_switch", "on": settings.kill_switch, "t": now})

    def end(self, step_records: int = 0) -> None:
        """Writes `run_end` and closes the file; `step_records` went to the run's step file."""
        self.flush()
        self._write(
            {
                "type": "run_end",
                **self.counters,
                "step_records": step_records,
                "degraded": self.degraded,
                "t": self._clock(),
            }
        )
        if self._events:
            self._events.close()
            self._events = None

    def flush(self) -> None:
        """Writes and counts the preemptions that wait. To be called after a step."""
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            if self._meter:
                self._meter.preempted(record)
            if not self._events:
                continue
            rows = record["candidates"]() if callable(record["candidates"]) else record["candidates"]
            named = [dict(zip(CANDIDATE, row, strict=True)) for row in rows]
            self._write({"type": "preempt", **record, "candidates": named})

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._events:
            if self._waiting:
                self.flush()
            start = time.perf_counter_ns()
            self._events.write(record)
            self.counters["write_ns"] += time.perf_counter_ns() - start
