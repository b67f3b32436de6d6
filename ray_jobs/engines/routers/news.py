"""What replicas tell a router that hears them, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Block = Hashable
"""The name of a KV block: it says what is in it and all that stands before it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that can now be found in its prefix cache."""

    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that were evicted."""

    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Cleared:
    """Its prefix cache is empty."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A request's first token came."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Done:
    """A request was answered, or nobody waits for it any more."""

    request_id: str


News = Stored | Removed | Cleared | Prefilled | Done
