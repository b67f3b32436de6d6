"""What was looked at in one step: it bounds the step's cost, and a simulation charges for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Looks:
    """Counts of one call of `schedule()`, beyond what vLLM looks at itself."""

    candidates: int = 0  # waiting requests asked about
    blocks: int = 0  # blocks looked up in the prefix cache for them
    running: int = 0  # running requests summed over
    cut: bool = False  # nobody else was asked about, since it took too long

    def reset(self) -> None:
        self.candidates = self.blocks = self.running = 0
        self.cut = False
