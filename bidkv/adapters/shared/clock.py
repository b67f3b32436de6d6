"""The time that adapters decide by."""

from __future__ import annotations

import time

_EPOCH = time.time() - time.monotonic()


def steady_time() -> float:
    """Seconds since the epoch, as the wall clock said when this was imported: setting that clock moves no deadline."""
    return _EPOCH + time.monotonic()
