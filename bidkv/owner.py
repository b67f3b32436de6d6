"""What rules of retention and admissions see of a conversation that left blocks in the prefix cache."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Owner:
    """A conversation whose turns left blocks in the prefix cache; idle while none of its turns runs.

    One is told from another by its chain of blocks: a turn whose prompt begins with all that an owner has is its
    next turn, whatever the client says. Times in seconds on the run's clock, lengths in tokens.
    """

    name: int
    session: str | None = None  # what its client calls the conversation, if it does
    turns: int = 0  # answered so far
    used: float = 0.0  # when its latest turn ended
    tokens: int = (
        0  # of its cached blocks that no other owner had when it began to rest, less those given up since
    )
    seconds: float = 0.0  # that it would take to get those back: to load what has copies in host memory, to compute the rest
    copied: int = 0  # of those, the ones that host memory has too
    held: int = 0  # tokens of all its cached blocks, those that others have too included
    history: int = 0  # tokens of the conversation when its latest turn ended
    pause_s: float | None = None  # what its client declared of the pause after the latest turn
    waiting_since: float | None = None  # for memory: its next turn has arrived, or was preempted
    pauses: list[float] = field(default_factory=list)  # between its turns so far; the latest ones
    true_next: float | None = None  # when its next turn arrives, inf for never; only oracles see it
