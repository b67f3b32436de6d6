"""Brings what is recorded into the store, beside the runs."""

from __future__ import annotations

import threading

from tracking.imports import large_imports
from tracking.store.config import TrackingConfig
from tracking.store.spool import Spool, waiting_spools

with large_imports():
    from tracking.store.upload import bring, upload_waiting  # with MLflow

LONGEST_PAUSE_S = 30.0  # between two tries of an upload


class Uploader:
    """Brings what is spooled into the store, one record after another, for as long as it takes.

    Then, once, what earlier sweeps left in the same folder.
    """

    def __init__(self, sweep_id: str, tracking: TrackingConfig):
        self.spool = Spool(tracking.spool, sweep_id)
        self.tracking = tracking
        self.earlier = [spool for spool in waiting_spools(tracking.spool) if spool.sweep_id != sweep_id]
        self.error: str | None = None  # why the last try failed; None while all goes well
        self._wake = threading.Event()
        threading.Thread(target=self._work, daemon=True).start()

    def state(self) -> tuple[int, str | None]:
        """How many records wait, and what for."""
        self._wake.set()
        return len(self.spool.pending()), self.error

    def _work(self) -> None:
        pause = 1.0
        while True:
            self.error = upload_waiting(self.spool, self.tracking)
            while self.error is None and self.earlier and not self.spool.pending():
                bring(self.earlier.pop())
            pause = 1.0 if self.error is None else min(2 * pause, LONGEST_PAUSE_S)
            self._wake.wait(pause)
            self._wake.clear()
