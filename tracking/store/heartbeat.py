"""Keeps a sweep's lease alive, and notices when another process has taken the sweep over."""

from __future__ import annotations

import threading
import time

from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tracking.store.lease import HEARTBEAT_S, PREFIX, Lease


class Heartbeat:
    """Renews the lease in a thread until `stop`. `taken_by` is who has the sweep now, if that is another process.

    That happens when no heartbeat reached the store for so long that a command on another machine took
    this process for dead: it was suspended, or the network was away.
    """

    def __init__(self, client: MlflowClient, sweep_id: str, lease: Lease):
        self.client = client
        self.sweep_id = sweep_id
        self.lease = lease
        self.taken_by: Lease | None = None
        self._stop = threading.Event()
        threading.Thread(target=self._renew, name="sweep lease", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """One beat. Raises MlflowException if the store does not answer."""
        held = Lease.of(self.client.get_run(self.sweep_id).data.tags)
        if held is not None and not held.same_process(self.lease):
            self.taken_by = held
            return
        tag = RunTag(f"{PREFIX}heartbeat", str(time.time()))
        self.client.log_batch(self.sweep_id, tags=[tag])

    def _renew(self) -> None:
        while self.taken_by is None and not self._stop.wait(HEARTBEAT_S):
            try:
                self.look()
            except MlflowException:
                continue  # the store is away; the next beat tries again
