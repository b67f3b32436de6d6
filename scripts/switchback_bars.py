"""The bars of `bidkv-switchback` on simulated days: how often nothing is called something, and 8 % is found.

    python scripts/switchback_bars.py [--days 200] [--effects 0 0.08] [--block 300]

A day's traffic is drawn anew: a rate that swings by the time of day and by the hour (log-normal, correlated over an
hour), requests of log-normal lengths, and one queue in front of a server that the swings fill to between a third and
nearly all. So waits of neighbours are alike over minutes, and of neighbouring blocks over hours. The strategy makes
E2E shorter by the effect, which builds up and fades over half a minute after each turn. The plan, the measures, the
guards and the verdict are the tool's own. tests/live/test_switchback_bars.py has a short version.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from omegaconf import OmegaConf
from scipy.signal import lfilter

from ray_jobs.live.answer import Answer, answer
from ray_jobs.live.config import HaltConfig
from ray_jobs.live.guard import Span, broken_early, harm_in_block
from ray_jobs.live.plan import Block, plan_blocks
from ray_jobs.live.records import values_of
from ray_jobs.live.served import Requests, Served
from tracking.cli import CONF
from tracking.evidence.config import GuardrailRule
from tracking.evidence.statistics import MIN_PAIRS

DAY_S, HOUR_S = 86_400.0, 3600.0
RATE, SERVICE_S = 2.0, 0.3  # requests a second, and seconds of the server for each, on average
TIDE, SWING = 0.25, 0.20  # of the log rate: over the day, and from hour to hour
RAMP_S = 30.0
MEANS = 0.5  # width of the log-normal lengths
LOOK_S, LOOK_PAIRS = 30.0, 4  # the tool looks more often: every few seconds, and after each pair


class Day(Served):
    """Requests of a day in order of arrival; at `now` only those that have ended are known."""

    killed = None

    def __init__(self, requests: Requests):
        self._all, self.now = requests, np.inf
        self._past: dict[
            tuple[float, float], dict[str, float]
        ] = {}  # of spans whose requests have long ended

    def poll(self) -> None:
        """All is here."""

    def trouble(self) -> str | None:
        return None

    def requests(self) -> Requests:
        return self._all if self.now == np.inf else self._known(0.0, self.now)

    def values(self, begin: float, end: float) -> dict[str, float]:
        """As of records, for which only those near the span are looked at."""
        if (begin, end) in self._past:
            return self._past[begin, end]
        found = values_of(self._known(begin - HOUR_S, end), begin, end)
        if end < self.now - HOUR_S:
            self._past[begin, end] = found
        return found

    def _known(self, begin: float, end: float) -> Requests:
        first, after = np.searchsorted(self._all.arrival, [begin, end])
        columns = [getattr(self._all, name)[first:after] for name in self._all.__dataclass_fields__]
        ended = columns[1] < self.now
        return Requests(*(column[ended] for column in columns))


def traffic(random: np.random.Generator, blocks: Sequence[Block], effect: float) -> Day:
    """A day of requests under the plan."""
    minutes = np.arange(int(DAY_S // 60) + 1)
    keep = np.exp(-1 / 60)  # of the swing from one minute to the next: an hour's memory
    hourly = lfilter([np.sqrt(1 - keep**2)], [1, -keep], random.standard_normal(len(minutes) + 600))[600:]
    tide = np.sin(2 * np.pi * (minutes / 1440 + random.uniform()))
    rate = RATE * np.exp(TIDE * tide + SWING * hourly)
    arrival = np.sort(np.repeat(minutes, random.poisson(rate * 60)) * 60.0)
    arrival = np.sort(arrival + random.uniform(0, 60, len(arrival)))
    arrival = arrival[arrival < blocks[-1].end]
    length = np.exp(MEANS * random.standard_normal(len(arrival)) - MEANS**2 / 2)
    service = SERVICE_S * length
    # Lindley: who arrives waits for the work that is there, which idle time cuts at nothing.
    work = np.cumsum(service[:-1] - np.diff(arrival))
    wait = np.append(0.0, work - np.minimum(0.0, np.minimum.accumulate(work)))
    e2e = (wait + 4 * service) * (1 - effect * strength(arrival, blocks))
    tokens = np.maximum(1, np.round(200 * length))
    return Day(Requests(arrival, arrival + e2e, 2 * tokens, tokens, np.ones(len(arrival), bool)))


def strength(t: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """How much of the strategy shows at each time, 0 to 1: it nears what the block has over `RAMP_S`."""
    level, found = 0.0, np.empty(len(t))
    for block in blocks:
        first, after = np.searchsorted(t, [block.begin, block.end])
        fading = np.exp(-(t[first:after] - block.begin) / RAMP_S)
        target = float(block.strategy)
        found[first:after] = target + (level - target) * fading
        level = target + (level - target) * np.exp(-(block.end - block.begin) / RAMP_S)
    return found


def live_rules() -> list[GuardrailRule]:
    return [GuardrailRule(**rule) for rule in OmegaConf.load(CONF / "guardrails" / "live.yaml").rules]


def one_day(
    seed: int, effect: float, block_s: float = 300.0, washout_s: float = 60.0, guards: bool = True
) -> Answer:
    """What the tool says of the day with this seed; without `guards` nothing ends it, and none is checked."""
    random = np.random.default_rng([26, seed])
    blocks = plan_blocks(int(DAY_S // (2 * block_s)), block_s, int(random.integers(2**31)))
    day, rules = traffic(random, blocks, effect), live_rules() if guards else []
    spans: list[Span] = []
    halted = None
    for block in blocks:
        span = Span(block.strategy, block.begin + washout_s, block.end)
        stock = [each for each in spans if not each.strategy]
        for day.now in (
            np.arange(block.begin + LOOK_S, block.end, LOOK_S) if guards and block.strategy else ()
        ):
            halted = halted or harm_in_block(day, span, day.now, stock, HaltConfig())
        day.now = block.end
        spans.append(span)
        if guards and len(spans) % (2 * LOOK_PAIRS) == 0 and len(spans) >= 2 * MIN_PAIRS:
            halted = halted or broken_early(rules, day, pairs_of(spans), len(blocks) // 2)
        if halted:
            break
    day.now = np.inf
    return answer("simulated", day, pairs_of(spans), rules, 0.005, halted)


def pairs_of(spans: Sequence[Span]) -> list[tuple[Span, Span]]:
    turns = zip(spans[::2], spans[1::2], strict=False)
    return [(a, b) if b.strategy else (b, a) for a, b in turns]


@dataclass
class Tally:
    """Shares of the days."""

    days: int = 0
    better: int = 0
    worse: int = 0
    halted: int = 0
    covered: int = 0

    def add(self, found: Answer, truth: float) -> None:
        self.days += 1
        self.better += found.verdict.startswith("better")
        self.worse += found.verdict == "worse"
        self.halted += found.halted is not None
        self.covered += found.ratio is not None and found.ratio.low <= truth <= found.ratio.high

    def line(self, name: str) -> str:
        shares = (self.better, self.worse, self.halted, self.covered)
        better, worse, halted, covered = (f"{count / self.days:7.1%}" for count in shares)
        return f"{name:<16}{self.days:>6}  better {better}  worse {worse}  halted {halted}  covered {covered}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.08], help="0 is A/A")
    parser.add_argument("--block", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first day; the others follow")
    parser.add_argument("--no-guards", action="store_true", help="verdicts alone, in a tenth of the time")
    options = parser.parse_args()
    print(f"days {options.days}, blocks of {options.block:g} s, seeds from {options.seed}")
    for effect in options.effects:
        tally = Tally()
        for seed in range(options.seed, options.seed + options.days):
            tally.add(one_day(seed, effect, options.block, guards=not options.no_guards), 1 - effect)
        print(tally.line(f"{effect:.0%} shorter" if effect else "A/A"), flush=True)


if __name__ == "__main__":
    main()
