"""Conversations drawn from `workload.source.conversation`: chats, or coding agents with sub-agents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.length_config import LengthConfig
from ray_jobs.workload.lengths import draw_durations, draw_lengths
from ray_jobs.workload.session_config import ConversationConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, TurnDraft
from ray_jobs.workload.streams import stream

HAS_FILE = False


def sessions(config: WorkloadConfig, seed: int, vocab_size: int) -> Iterator[list[TurnDraft]]:
    """Without end; each session depends on its number and the seed alone."""
    for number in count():
        yield _Session(config, seed, number).turns


class _Session:
    def __init__(self, config: WorkloadConfig, seed: int, number: int):
        self._conversation: ConversationConfig = config.source.conversation
        self._kind, self._name = config.name, ("session", number)
        self._random = stream(seed, *self._name)
        self.turns: list[TurnDraft] = []
        self._line(self._draw(self._conversation.turns), (), ())

    def _line(self, length: int, line: tuple[int, ...], parents: tuple[int, ...]) -> int:
        """Adds `length` turns of the main agent or of a sub-agent; returns the place of the last one."""
        conversation, agents = self._conversation, self._conversation.agents
        prompt = SegmentPrompt(
            (("prefix", self._kind, "agent" if line else "main"),),
            (conversation.system_tokens,),
            shared=True,
        )
        for turn in range(length):
            added = self._draw(conversation.added if turn else conversation.first)
            prompt = _longer(prompt, (*self._name, *line, turn, "said"), added)
            output = self._draw(conversation.output)
            think = float(draw_durations(conversation.think_s, self._random.random(1))[0])
            kind = f"{self._kind}-agent" if line else self._kind
            place = len(self.turns)
            self.turns.append(
                TurnDraft(Draft(kind, prompt, output), turn, parents, 0.0 if not turn else think)
            )
            prompt = _longer(prompt, (*self._name, *line, turn, "answer"), output)
            parents = (place,)
            if agents is not None and not line and turn < length - 1 and self._random.random() < agents.share:
                for agent in range(self._draw(agents.count)):
                    parents += (self._line(self._draw(agents.turns), (turn, agent), (place,)),)
        return parents[0]

    def _draw(self, lengths: LengthConfig) -> int:
        return int(draw_lengths(lengths, self._random.random(1))[0])


def _longer(prompt: SegmentPrompt, name: tuple[str | int, ...], length: int) -> SegmentPrompt:
    if prompt.lengths == (0,):
        return SegmentPrompt((name,), (length,), shared=True)
    return SegmentPrompt((*prompt.names, name), (*prompt.lengths, length), shared=True)
