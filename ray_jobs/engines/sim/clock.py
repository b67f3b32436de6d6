"""A clock that stands still until it is told to move."""

from __future__ import annotations


class VirtualClock:
    """Seconds since the start of a run. Call it to read it."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def too_slow(wall_timeout_s: float, clock: VirtualClock) -> TimeoutError:
    """For a simulation that took longer than it may, in real seconds."""
    return TimeoutError(
        f"the simulation took longer than engine.sim.wall_timeout_s={wall_timeout_s} "
        f"(virtual time {clock.now:.1f} s)"
    )
