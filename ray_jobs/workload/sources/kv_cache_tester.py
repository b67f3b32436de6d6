"""Coding-agent sessions of kv-cache-tester: hash ids of 64-token blocks, think times, sub-agents.

github.com/callanjfox/kv-cache-tester, folder `traces` (739 sessions, 59,204 requests), Apache-2.0.
`workload.source.path` is that folder or one of its files. Prompts are long (median 110,000 tokens):
scale them with `workload.length_scale`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, TurnDraft
from ray_jobs.workload.sources.shared.blocks import BlockPrompt
from ray_jobs.workload.sources.shared.files import picked_files

Record = dict[str, Any]


def sessions(config: WorkloadConfig, seed: int, vocab_size: int) -> Iterator[list[TurnDraft]]:
    """One a file, in the order of `workload.source.pick`; a file is read when its turn comes."""
    for file in picked_files(config.source, "*.json", seed):
        try:
            yield _Session(file, config.name).turns
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"workload.source.path={config.source.path!r}: {file.name}: {type(error).__name__}: {error}"
            ) from error


class _Session:
    """A file's requests as turns. Its hash ids are its own: another file's mean other blocks.

    A sub-agent begins when its record says, after the answer to the turn before it; the next turn of
    the main agent waits for it unless it was launched to run by itself (its record has no duration).
    """

    def __init__(self, file: Path, kind: str):
        record = json.loads(file.read_text(encoding="utf-8"))
        self._name, self._width = ("blocks", file.stem), record["block_size"]
        requests = list(_requests(record["requests"]))
        ids = {i for request in requests for i in request["hash_ids"]}
        # Tails that no later block completes get numbers of their own, behind those of the blocks.
        self._number = {block: number for number, block in enumerate(sorted(ids))}
        self._tails = len(ids)
        self._total = len(ids) + len(requests)
        self.turns: list[TurnDraft] = []
        self._line(record["requests"], kind, (), 0.0)

    def _line(self, entries: list[Record], kind: str, parents: tuple[int, ...], think: float) -> int | None:
        """Adds the turns of one agent; returns the place of the last, None if there is none."""
        requests = [entry for entry in entries if entry["type"] != "subagent"]
        before: Record | None = None
        last: int | None = None
        turn = 0
        for entry in entries:
            if entry["type"] == "subagent":
                own = () if last is None else (last,)
                end = self._line(entry["requests"], f"{kind}-agent", own, _launch_s(entry, before))
                if end is not None and own and entry.get("duration_ms"):
                    parents += (end,)
                continue
            following = requests[turn + 1] if turn + 1 < len(requests) else None
            draft = Draft(kind, self._prompt(entry, following), max(1, entry["out"]))
            last = len(self.turns)
            self.turns.append(TurnDraft(draft, turn, parents, think if not turn else _think_s(entry, before)))
            parents, before, turn = (last,), entry, turn + 1
        return last

    def _prompt(self, entry: Record, following: Record | None) -> BlockPrompt:
        """Whole blocks by their ids; the rest is the front of the block that the next turn has there."""
        ids, length, width = entry["hash_ids"], entry["in"], self._width
        if not length // width <= len(ids) <= -(-length // width) or length < 1:
            raise ValueError(f"{len(ids)} hash ids for {length} tokens, expected one for each whole {width}")
        numbers = [self._number[i] for i in ids]
        if len(ids) * width < length:
            after = following["hash_ids"] if following else []
            if len(after) > len(ids) and after[: len(ids)] == ids:
                numbers.append(self._number[after[len(ids)]])
            else:
                numbers.append(self._tails)
                self._tails += 1
        return BlockPrompt(self._name, self._total, width, np.array(numbers), length, width)


def _requests(entries: list[Record]) -> Iterator[Record]:
    """All requests of a list of entries, those of sub-agents included."""
    for entry in entries:
        if entry["type"] == "subagent":
            yield from _requests(entry["requests"])
        else:
            yield entry


def _think_s(entry: Record, before: Record) -> float:
    """Seconds between the answer before and this request."""
    think = entry.get("think_time")
    return max(0.0, entry["t"] - _answered_t(before) if think is None else think)


def _launch_s(agent: Record, before: Record | None) -> float:
    """Seconds between the answer before and a sub-agent's begin. Its `t` is when it came back."""
    begin = agent["t"] - (agent.get("duration_ms") or 0) / 1000
    return 0.0 if before is None else max(0.0, begin - _answered_t(before))


def _answered_t(entry: Record) -> float:
    return entry["t"] + (entry.get("api_time") or 0.0)
