"""Who runs a sweep now: a lease in the tags of its parent run, kept alive by a heartbeat."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PREFIX = "bidkv.lease."
HEARTBEAT_S = 15.0
EXPIRES_S = 120.0  # without a heartbeat; only for processes of other machines, which nobody here can look up


@dataclass(frozen=True)
class Lease:
    """The process that runs a sweep; times in seconds since the epoch."""

    host: str
    machine: str  # the boot and the process numbers that `pid` is of: two containers may share a host's name
    pid: int
    created: float  # when the process was created: a pid alone may be somebody else's by now
    since: float
    heartbeat: float

    @classmethod
    def mine(cls) -> Lease:
        now = time.time()
        return cls(platform.node(), this_machine(), os.getpid(), psutil.Process().create_time(), now, now)

    @classmethod
    def of(cls, tags: dict[str, str]) -> Lease | None:
        """The lease that these tags tell of; None for a sweep of before there were leases."""
        try:
            values = {key: tags[PREFIX + key] for key in ("host", "pid", "created", "since", "heartbeat")}
        except KeyError:
            return None
        numbers = {key: float(values[key]) for key in ("created", "since", "heartbeat")}
        machine = tags.get(f"{PREFIX}machine", values["host"])
        return cls(values["host"], machine, int(values["pid"]), **numbers)

    @property
    def tags(self) -> dict[str, str]:
        return {PREFIX + key: str(value) for key, value in vars(self).items()}

    @property
    def is_mine(self) -> bool:
        return (self.machine, self.pid) == (this_machine(), os.getpid())

    @property
    def is_here(self) -> bool:
        """Whether the process is one that can be looked up from here."""
        return self.machine == this_machine()

    def same_process(self, other: Lease) -> bool:
        """Whether both are of one process."""
        return (self.machine, self.pid, self.created) == (other.machine, other.pid, other.created)

    def alive(self) -> bool:
        """Whether the process still runs, as far as this machine can tell."""
        if not self.is_here:
            return time.time() - self.heartbeat < EXPIRES_S
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host} since {since}"


def this_machine() -> str:
    """Names the boot and the process namespace of this process; the host's name where /proc does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()
