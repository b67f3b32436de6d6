"""Is the KV cache under pressure, and how many tokens would end it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bidkv.bids.gate import BidGate
from bidkv.errors import BidValidationError


@dataclass(frozen=True)
class PressureConfig:
    """`threshold` is the occupied share of the KV cache, in (0, 1], from which there is pressure.

    With urgent requests waiting, there is also pressure below `min_free_tokens` free KV tokens.
    """

    threshold: float = 0.85
    min_free_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise BidValidationError(f"threshold must be in (0, 1], got {self.threshold}")
        if self.min_free_tokens < 0:
            raise BidValidationError(f"min_free_tokens must be >= 0, got {self.min_free_tokens}")


@dataclass(frozen=True)
class KVStats:
    """KV cache at one moment, in tokens, and how many urgent requests wait."""

    used_tokens: int = 0
    max_tokens: int = 0
    pending_high_priority: int = 0

    def __post_init__(self) -> None:
        if min(self.used_tokens, self.max_tokens, self.pending_high_priority) < 0:
            raise BidValidationError(f"KV statistics must be >= 0, got {self}")
        if self.used_tokens > self.max_tokens:
            raise BidValidationError(
                f"used_tokens must be <= max_tokens, got {self.used_tokens} > {self.max_tokens}"
            )

    @property
    def free_tokens(self) -> int:
        return self.max_tokens - self.used_tokens


class PressureDetector:
    """Judges the last statistics it was given, without smoothing: a decision needs the state of now.

    With a `gate`, an inactive one means no pressure and nothing needed.
    """

    def __init__(self, config: PressureConfig | None = None, gate: BidGate | None = None):
        self.config = config or PressureConfig()
        self.gate = gate
        self.stats = KVStats()

    def update_stats(self, used_tokens: int, max_tokens: int, pending_high_priority: int = 0) -> None:
        """Replaces the statistics at once; raises `BidValidationError` if they cannot be true."""
        self.stats = KVStats(used_tokens, max_tokens, pending_high_priority)

    def is_under_pressure(self) -> bool:
        return self.needed_tokens() > 0

    def needed_tokens(self) -> int:
        """KV tokens to free until there is no pressure; 0 when there is none."""
        stats = self.stats
        if stats.max_tokens == 0 or (self.gate is not None and not self.gate.is_active):
            return 0
        allowed = _most_below(self.config.threshold, stats.max_tokens)
        if stats.pending_high_priority:
            allowed = min(allowed, stats.max_tokens - self.config.min_free_tokens)
        return max(0, stats.used_tokens - max(0, allowed))


def _most_below(threshold: float, max_tokens: int) -> int:
    """The largest n with n / max_tokens < threshold, as floats compare it."""
    most = math.ceil(threshold * max_tokens)
    while most > 0 and most / max_tokens >= threshold:
        most -= 1
    return most
