"""Who runs a sweep now: a lease in the tags of its parent run, kept alive by a heartbeat."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass

import psutil

PREFIX = "bidkv.lease."
HEARTBEAT_S = 15.0
EXPIRES_S = 120.0  # without a heartbeat; only for processes of other machines, which nobody here can look up


@dataclass(frozen=True)
class Lease:
    """The process that runs a sweep; times in seconds since the epoch."""

    host: str
    pid: int
    created: float  # when the process was created: a pid alone may be somebody else's by now
    since: float
    heartbeat: float

    @classmethod
    def mine(cls) -> Lease:
        now = time.time()
        return cls(platform.node(), os.getpid(), psutil.Process().create_time(), now, now)

    @classmethod
    def of(cls, tags: dict[str, str]) -> Lease | None:
        """The lease that these tags tell of; None for a sweep of before there were leases."""
        try:
            values = {key: tags[PREFIX + key] for key in ("host", "pid", "created", "since", "heartbeat")}
        except KeyError:
            return None
        numbers = {key: float(value) for key, value in values.items() if key not in ("host", "pid")}
        return cls(values["host"], int(values["pid"]), **numbers)

    @property
    def tags(self) -> dict[str, str]:
        return {PREFIX + key: str(value) for key, value in vars(self).items()}

    @property
    def is_mine(self) -> bool:
        return (self.host, self.pid) == (platform.node(), os.getpid())

    def alive(self) -> bool:
        """Whether the process still runs, as far as this machine can tell."""
        if self.host != platform.node():
            return time.time() - self.heartbeat < EXPIRES_S
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created) < 1.0
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host} since {since}"
