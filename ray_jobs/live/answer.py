"""What the experiment found, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray_jobs.live.guard import Check, Span, checks
from ray_jobs.live.served import Served
from tracking.evidence.config import GuardrailRule
from tracking.evidence.statistics import Interval, verdict
from tracking.evidence.switchback import switchback_test

METRIC = "e2e_mean_s"


@dataclass(frozen=True)
class Answer:
    """`ratio` is strategy / stock in mean E2E with its 95 % interval; None without a pair in which both served somebody."""

    strategy: str
    verdict: str
    pairs: int
    requests: int
    stock_s: float | None
    strategy_s: float | None
    ratio: Interval | None
    p_value: float | None
    guardrails: list[Check]
    halted: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """One sentence, then a line for each guardrail."""
        if self.ratio is None:
            found = [f"{self.strategy}: {self.verdict}: no pair of blocks in which both served somebody"]
        else:
            found = [
                f"{self.strategy}: {self.verdict}: mean E2E is {self.ratio.value:.3f} times stock's "
                f"({self.ratio.low:.3f} to {self.ratio.high:.3f}), {self.strategy_s:.3g} s to {self.stock_s:.3g} s, over "
                f"{self.pairs} pairs of blocks and {self.requests} requests; p {self.p_value:.2g} by the order that was drawn"
            ]
        for check in self.guardrails:
            ratio = (
                ""
                if check.status == "not measured"
                else f", {check.ratio:.3f} ({check.low:.3f} to {check.high:.3f})"
            )
            found.append(f"guardrail {check.metric} {check.limit}: {check.status}{ratio}")
        if self.halted:
            found.append(f"halted, stock decides for good: {self.halted}")
        return found


def answer(
    strategy: str,
    served: Served,
    pairs: Sequence[tuple[Span, Span]],
    rules: Sequence[GuardrailRule],
    practical: float,
    halted: str | None = None,
) -> Answer:
    """`pairs` are those of (stock, strategy) that were whole. An experiment that was halted has no verdict: when it ended
    depends on what was seen."""
    both = [
        (a, b)
        for stock, own in pairs
        if (a := served.values(stock.begin, stock.end)) and (b := served.values(own.begin, own.end))
    ]
    found = checks(rules, served, pairs)
    if not both:
        return Answer(strategy, "no verdict", 0, 0, None, None, None, None, found, halted)
    stock_s, own_s = ([values[METRIC] for values in side] for side in zip(*both, strict=True))
    test = switchback_test(stock_s, own_s, practical)
    word = "no verdict" if halted else verdict(test, test.p_value, "lower")
    if word == "better" and any(check.status != "held" for check in found):
        word = "better, but"
    count = int(sum(values["requests"] for pair in both for values in pair))
    return Answer(
        strategy,
        word,
        len(both),
        count,
        test.baseline_mean,
        test.mean,
        test.ratio,
        test.p_value,
        found,
        halted,
    )
