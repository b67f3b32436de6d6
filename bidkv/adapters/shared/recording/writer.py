"""Takes records from the engine's thread and writes them in one of its own, so that no disk holds up a step."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.recording.segments import Segments

logger = logging.getLogger(__name__)
encoded = json.JSONEncoder(separators=(",", ":")).encode

Record = dict[str, Any] | list[Any]
Told = tuple[Any, ...]
"""What makes a record, or only takes notice (`Callable[..., Record | None]`), and behind it what that is given."""


class Writer:
    """What it is told is worked up and written twice a second, a few records at a time: between two slices the engine's
    thread may go on. What goes wrong stops the recording with one warning, and never the engine.

    `tell` takes a `Told`; what it names is called in the writer's thread, in the order in which it was told. It only appends,
    since a step does it several times; once a step `goes_on` sees to the rest.
    """

    SLICE, REST_S = 32, 0.001
    EVERY_S = 0.5
    MOST = 200_000  # records that wait: a disk that takes none for so long does not keep up

    def __init__(self, segments: Segments):
        self._segments = segments
        self._waiting: deque[Told] = deque()
        self.tell: Callable[[Told], None] = self._waiting.append
        self._wake, self._closing = threading.Event(), False
        self.stopped = False
        self._thread: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        return self._thread is not None

    def goes_on(self) -> bool:
        """Whether what is told is written. The first call begins; to be called again before long."""
        if self.stopped:
            self._waiting.clear()
            return False
        if self._thread is None:  # now, not when the engine starts: it may fork until it serves
            self._thread = threading.Thread(target=self._run, name="bidkv-recording", daemon=True)
            self._thread.start()
        if len(self._waiting) > self.MOST:
            self.stop(f"{self.MOST} records wait for the disk")
        return not self.stopped

    def close(self, timeout_s: float = 10.0) -> None:
        """Writes what waits and ends the thread, or leaves it where the disk does not answer."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self.stopped:
            closing = self._wake.wait(self.EVERY_S) or self._closing
            try:
                self._drain()
            except OSError as error:
                self.stop(error)
            except Exception as error:  # a record that cannot be written: the server goes on
                self.stop(repr(error))
            if closing:
                break
        self._segments.close()

    def _drain(self) -> None:
        waiting, lines, done = self._waiting, [], 0
        while waiting and done < self.MOST:
            what, *facts = waiting.popleft()
            record = what(*facts)
            done += 1
            if record is not None:
                lines.append(encoded(record) + "\n")
            if done % self.SLICE == 0 and not self._closing:
                time.sleep(self.REST_S)
        if lines:
            self._segments.write("".join(lines).encode())

    def stop(self, why: object) -> None:
        """For good; `why` is said once."""
        if self.stopped:
            return
        self.stopped = True
        self._waiting.clear()
        logger.warning("bidkv: the recording has stopped, the server goes on: %s", why)
