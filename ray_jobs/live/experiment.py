"""Carries out the plan on a running server: turns, looks, and whatever happens ends with the engine's own choices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bidkv.adapters.shared.clock import steady_time
from bidkv.adapters.shared.events import JsonLines
from ray_jobs.live.answer import Answer, answer
from ray_jobs.live.config import SwitchbackConfig
from ray_jobs.live.guard import Span, broken_early, harm_in_block
from ray_jobs.live.lease import Lease
from ray_jobs.live.plan import Block
from ray_jobs.live.served import Served

Say = Callable[[str], None]


class Halt(Exception):
    """The experiment ends here; the message says why."""


class Experiment:
    """One run of the plan. `served` is measured, `watched` (it among them) may call a halt."""

    def __init__(
        self,
        config: SwitchbackConfig,
        blocks: Sequence[Block],
        served: Served,
        watched: Sequence[Served],
        lease: Lease,
        journal: JsonLines,
        say: Say,
        clock: Callable[[], float] = steady_time,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._config, self._blocks, self._served, self._watched = config, blocks, served, watched
        self._lease, self._journal, self._say = lease, journal, say
        self._clock, self._sleep = clock, sleep
        self._spans: list[Span] = []  # of blocks that were whole

    def run(self, seed: int) -> Answer:
        """To the end of the plan, or until a halt. Stock decides then, also after an exception."""
        halted = None
        try:
            self._begin(seed)
            start = self._clock()
            for block in self._blocks:
                self._block(block, start)
            self._wait_for_answers()
        except Halt as halt:
            halted = str(halt)
        except OSError as error:
            halted = f"the control file cannot be read and written any more: {error}"
        finally:
            self._back_to_stock()
        for served in self._watched:
            served.poll()
        rules = self._config.guardrails.rules
        found = answer(
            self._config.strategy.label, self._served, self._pairs(), rules, self._config.practical, halted
        )
        self._note({"type": "answer", **found.to_dict()}, must=False)
        return found

    def _begin(self, seed: int) -> None:
        order = [block.strategy for block in self._blocks]
        self._note(
            {
                "type": "plan",
                "strategy": self._config.strategy.label,
                "seed": seed,
                "block_s": self._config.block_s,
                "washout_s": self._config.washout_s,
                "order": order,
                "control_file_was": self._lease.before(),
            }
        )

    def _block(self, block: Block, start: float) -> None:
        begin, end = start + block.begin, start + block.end
        span = Span(block.strategy, begin + self._config.washout_s, end)
        self._lease.turn(block.strategy)
        self._note({"type": "block", "number": block.number, "strategy": block.strategy, "t": self._clock()})
        while (left := end - self._clock()) > 0:
            self._sleep(min(left, self._config.look_s))
            self._look(span)
        self._spans.append(span)
        if len(self._spans) % 2 == 0:
            why = broken_early(
                self._config.guardrails.rules, self._served, self._pairs(), len(self._blocks) // 2
            )
            if why:
                raise Halt(why)
            self._say(
                f"pair {len(self._spans) // 2} of {len(self._blocks) // 2}: guardrails hold or are open"
            )

    def _look(self, span: Span) -> None:
        if self._lease.taken():
            raise Halt("somebody else wrote the control file")
        if not self._lease.renew():
            self._note({"type": "late", "t": self._clock()})
            self._say("this tool was held up; meanwhile the server had gone back to stock by itself")
        for served in self._watched:
            served.poll()
            why = served.trouble() or self._not_taken(served, span)
            if why:
                raise Halt(why)
        if span.strategy:
            stock = [each for each in self._spans if not each.strategy]
            why = harm_in_block(self._served, span, self._clock(), stock, self._config.halt)
            if why:
                raise Halt(why)

    def _not_taken(self, served: Served, span: Span) -> str | None:
        """A server without work does not look at its file; one that served somebody since the turn has."""
        since = self._lease.turned + self._config.look_s
        if self._clock() < since + self._config.look_s or served.killed == (not span.strategy):
            return None
        if served.killed is None and not span.strategy:
            return None  # it had nothing to turn yet
        if not served.values(since, self._clock()):
            return None
        return "it does not do what the control file says: is that its --bidkv-control?"

    def _wait_for_answers(self) -> None:
        """Those of the last block; stock decides meanwhile."""
        self._lease.turn(False)
        self._sleep(self._config.washout_s)

    def _back_to_stock(self) -> None:
        try:
            self._lease.turn(False)
        except OSError as error:
            self._say(
                f"the control file cannot be written ({error}); the server goes back to stock within the lease"
            )

    def _pairs(self) -> list[tuple[Span, Span]]:
        """(stock, strategy) of each whole pair."""
        turns = zip(self._spans[::2], self._spans[1::2], strict=False)
        return [(first, second) if second.strategy else (second, first) for first, second in turns]

    def _note(self, record: Mapping[str, Any], must: bool = True) -> None:
        """Raises Halt if the journal cannot be written: what nobody can check is no experiment."""
        self._journal.write(record)
        if must and self._journal.lost:
            raise Halt(f"the journal cannot be written: {self._journal.path}")
