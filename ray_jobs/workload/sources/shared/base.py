"""What a source hands out: requests whose prompts are described, not yet written out as tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ray_jobs.workload.lengths import scaled
from ray_jobs.workload.streams import stream
from tracking.errors import require

FIRST_TOKEN = 3  # smaller ids are commonly padding, start and end


class TokenMaker:
    """Writes segments of a prompt as token ids; equal names give equal tokens."""

    def __init__(self, seed: int, vocab_size: int):
        require(vocab_size > FIRST_TOKEN + 1, "engine.vocab_size", vocab_size, f"> {FIRST_TOKEN + 1}")
        self.seed = seed
        self.vocab_size = vocab_size
        self._made: dict[tuple[str | int, ...], np.ndarray] = {}

    def segment(self, name: tuple[str | int, ...], length: int, keep: bool) -> np.ndarray:
        """The first `length` tokens of the segment `name`; `keep` those that others will ask for."""
        tokens = self._made.get(name)
        if tokens is None or len(tokens) < length:
            random = stream(self.seed, "tokens", *name)
            tokens = random.integers(FIRST_TOKEN, self.vocab_size, size=length, dtype=np.int32)
            if keep:
                self._made[name] = tokens
        return tokens[:length]


class Prompt(Protocol):
    """A prompt of known length. `cut` keeps its front, since that is what prompts share."""

    def __len__(self) -> int: ...
    def cut(self, length: int) -> Prompt: ...
    def scaled(self, scale: float) -> Prompt: ...
    def tokens(self, maker: TokenMaker) -> np.ndarray: ...


@dataclass(frozen=True)
class SegmentPrompt:
    """Named segments in a row, each with its length in tokens. Equal names mean equal tokens."""

    names: tuple[tuple[str | int, ...], ...]
    lengths: tuple[int, ...]
    shared: bool = False  # whether other prompts use the same names

    def __len__(self) -> int:
        return sum(self.lengths)

    def cut(self, length: int) -> SegmentPrompt:
        kept: list[int] = []
        for own in self.lengths:
            if length <= 0:
                break
            kept.append(min(own, length))
            length -= own
        return replace(self, names=self.names[: len(kept)], lengths=tuple(kept))

    def scaled(self, scale: float) -> SegmentPrompt:
        """Every segment scaled by itself, so that what was shared stays shared."""
        return replace(self, lengths=tuple(scaled(length, scale) for length in self.lengths))

    def tokens(self, maker: TokenMaker) -> np.ndarray:
        return np.concatenate(
            [maker.segment(name, n, self.shared) for name, n in zip(self.names, self.lengths, strict=True)]
        )


@dataclass(frozen=True)
class TokenPrompt:
    """Token ids that are known already, from a text."""

    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> TokenPrompt:
        return TokenPrompt(self.ids[:length])

    def scaled(self, scale: float) -> TokenPrompt:
        """The front of a prompt if the scale is below 1, the prompt over and over if it is above."""
        return TokenPrompt(np.resize(self.ids, scaled(len(self.ids), scale)))

    def tokens(self, maker: TokenMaker) -> np.ndarray:
        return self.ids


@dataclass(frozen=True)
class ChatTurn:
    """Where a request of a recording stands in its chat: the `turn`-th (from 0) of `session`, with the id `own`.

    It goes on from the answer to the request `after`; None if it is the first.
    """

    session: int
    turn: int
    own: int
    after: int | None


@dataclass(frozen=True)
class Draft:
    """A request before it is frozen. `recorded_s` is the source's own arrival time in seconds."""

    kind: str
    prompt: Prompt
    output_tokens: int
    max_tokens: int | None = None  # its own declared constant
    priority: int = 0
    deadline_s: float | None = None
    recorded_s: float | None = None
    chat: ChatTurn | None = None

    def scaled(self, scale: float) -> Draft:
        if scale == 1:
            return self
        return replace(
            self,
            prompt=self.prompt.scaled(scale),
            output_tokens=scaled(self.output_tokens, scale),
            max_tokens=None if self.max_tokens is None else scaled(self.max_tokens, scale),
        )


@dataclass(frozen=True)
class TurnDraft:
    """A turn of a session. `parents` are places in the session, each before its own."""

    draft: Draft
    turn: int
    parents: tuple[int, ...] = ()
    think_s: float = 0.0  # since the answer to the first parent


def source_file(path: str) -> Path:
    """The source's file; ValueError if there is none."""
    file = Path(path).expanduser()
    require(file.is_file(), "workload.source.path", path, "an existing file")
    return file


def bad_record(path: str, number: int, problem: str) -> ValueError:
    """The error for record `number` (counted from 1) of a file."""
    return ValueError(f"workload.source.path={path!r}: record {number}: {problem}")


def in_order(drafts: Iterable[Draft]) -> list[Draft]:
    """Drafts by their recorded time."""
    return sorted(drafts, key=lambda draft: draft.recorded_s)
