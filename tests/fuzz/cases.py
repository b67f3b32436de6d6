"""One random case: an engine, a strategy, and operations at certain steps. A seed is a case, on every version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

MAX_LEN = 512
BLOCK = 16


@dataclass(frozen=True)
class Engine:
    """What an operator sets. `layout` names the KV cache groups, `connector` is none, sync or async."""

    blocks: int = 64
    seats: int = 8
    budget: int = 256
    caching: bool = False
    chunked: bool = True
    asynchronous: bool = False
    depth: int = 1  # steps in flight
    spec: int = 0  # draft tokens a step
    loras: int = 0  # slots
    layout: str = "full"
    dcp: int = 1
    connector: str = "none"
    fail_loads: bool = False
    watermark: float = 0.0
    reserve_full: bool = True
    long_prefill: int = 0


@dataclass(frozen=True)
class Op:
    """What happens before step `at`; `late` aborts come while that step runs, as a client's do."""

    at: int
    kind: str  # add, chunk, end, abort, reset, pause, kill, switch
    name: str = ""
    prompt: int = 0
    output: int = 0
    prefix: int = 0  # tokens shared with everybody who has a prefix
    lora: int = 0
    grammar: int = 0  # steps until it is compiled; below zero: it fails after so many
    priority: int = 0
    resumable: bool = False
    declared: int = 0
    jitter: float = 0.0  # seconds by which the arrival is older than the request's place in line
    late: bool = False
    value: Any = None


@dataclass(frozen=True)
class Case:
    """`str(case)` says all that matters in one line; `--seed` and `--version` make it again."""

    seed: int
    strategy: str
    engine: Engine
    ops: tuple[Op, ...] = field(repr=False)
    admission_params: dict[str, Any] = field(default_factory=dict)
    kill_switch: bool = False
    facts: bool = False

    @property
    def requests(self) -> int:
        return sum(op.kind == "add" for op in self.ops)

    def has(self, *kinds: str) -> bool:
        return any(op.kind in kinds for op in self.ops)

    def strategies(self) -> list[str]:
        """All that decide at some time in it."""
        return [self.strategy, *(op.value for op in self.ops if op.kind == "switch")]

    def __str__(self) -> str:
        standard = Engine()
        parts = [
            f"{f.name}={getattr(self.engine, f.name)}"
            for f in fields(Engine)
            if getattr(self.engine, f.name) != getattr(standard, f.name)
        ]
        kinds = [op.kind for op in self.ops]
        parts += [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        parts += [f"{k}={v}" for k, v in self.admission_params.items()]
        parts += ["kill"] * self.kill_switch + ["facts"] * self.facts
        return f"{self.strategy}: {' '.join(parts)}"


BOUNDED = ("backfill", "backfill-deep", "backfill_oracle", "bidkv2", "bidkv2_oracle")
"""Strategies whose bound a case may set low, so that it is reached, and whose room to grow it may take away."""


def make_case(seed: int, strategies: Sequence[str], strategy: str | None = None) -> Case:
    """The case of a seed. `strategy` replaces the drawn one and changes nothing else."""
    rng = random.Random(seed)
    drawn = rng.choice([*strategies, *BOUNDED, "backfill", "backfill"])
    engine = draw_engine(rng)
    ops = draw_ops(rng, engine, strategies)
    case = Case(
        seed,
        strategy or drawn,
        engine,
        tuple(sorted(ops, key=lambda op: op.at)),
        kill_switch=rng.random() < 0.08,
        facts=rng.random() < 0.3,
    )
    low: dict[str, Any] = {"max_overtaken": rng.choice([1, 3, 10])} if rng.random() < 0.6 else {}
    if rng.random() < 0.4:  # then nothing but vLLM's own want of memory keeps anybody waiting
        low |= {"headroom": 0.0, "growth": 0.0}
    return replace(case, admission_params=low if case.strategy in BOUNDED else {})


def draw_engine(rng: random.Random) -> Engine:
    chance = lambda p: rng.random() < p  # noqa: E731
    layout = rng.choices(
        ["full", "window", "sliding", "mamba", "mamba-align", "mixed"], [60, 6, 14, 7, 6, 7]
    )[0]
    asynchronous = chance(0.4)
    connector = rng.choice(["sync", "async"]) if chance(0.25) else "none"
    caching = chance(0.5) or layout == "mamba-align"
    chunked = not chance(0.15)
    long_prefill = rng.choice([16, 64]) if chance(0.1) else 0
    budget = rng.choice([64, 256, 512]) if chance(0.6) else rng.choice([17, 32, 100])
    groups = {"sliding": 3, "mamba": 2, "mamba-align": 2, "mixed": 2}.get(layout, 1)
    piped = chance(0.2)  # vLLM drafts in no pipeline without async scheduling
    largest = MAX_LEN // BLOCK * groups
    scarce = chance(0.65)
    return Engine(
        blocks=1 + (rng.randrange(largest + 4, largest * rng.choice([2, 2, 4])) if scarce else 1500 * groups),
        seats=rng.choice([2, 4, 8, 16, 16]),
        budget=budget if chunked else MAX_LEN,
        caching=caching and layout != "mamba",
        chunked=chunked,
        asynchronous=asynchronous,
        depth=(3 if piped else 2) if asynchronous else (3 if piped else 1),
        spec=rng.choice([1, 3]) if chance(0.15) and (asynchronous or not piped) else 0,
        loras=rng.choice([1, 2]) if chance(0.2) else 0,
        layout=layout,
        dcp=2 if layout == "full" and chance(0.12) else 1,
        connector=connector,
        fail_loads=chance(0.3) and connector != "none",
        watermark=rng.choice([0.05, 0.3]) if chance(0.15) else 0.0,
        reserve_full=not chance(0.15),
        long_prefill=long_prefill if chunked else 0,
    )


def draw_ops(rng: random.Random, engine: Engine, strategies: Sequence[str]) -> list[Op]:
    chance = lambda p: rng.random() < p  # noqa: E731
    count = rng.choice([5, 10, 20, 32])
    span = rng.choice([1, count // 2, count, count * 3])
    # Sessions hold memory while they wait for more: where there is little, two of them wait for each other for ever.
    most_sessions = 1 if engine.blocks < 1000 else count
    grammars, sessions, priorities, siblings = chance(0.25), chance(0.12), chance(0.2), chance(0.2)
    jitter = 0.2 if chance(0.06) else 0.0
    heads = rng.choice([0.0, 0.1, 0.3])  # how many want much of the memory
    ops: list[Op] = []
    made = 0
    while made < count:
        at = rng.randrange(span)
        big = chance(heads)
        output = rng.choice([1, 2, 10, 25, 50])
        op = Op(
            at,
            "add",
            prompt=rng.randrange(200, 380) if big else rng.choice([1, 16, 33, 64, 120, 180]),
            output=output,
            prefix=rng.choice([16, 40, 64]) if engine.caching and chance(0.5) else 0,
            lora=rng.randrange(4) if engine.loras else 0,
            grammar=rng.choice([1, 3, 10, 25, -2]) if grammars and chance(0.4) else 0,
            priority=rng.choice([-3, 0, 0, 5]) if priorities else 0,
            declared=output + rng.choice([0, 10, 200]),
            jitter=rng.random() * jitter,
            resumable=sessions and chance(0.4) and sum(op.resumable for op in ops) < most_sessions,
        )
        copies = rng.choice([2, 3, 12]) if siblings and chance(0.2) and not op.resumable else 1
        for copy in range(copies):  # n > 1: one prompt, as many requests
            name = f"{copy}_r{made}" if copies > 1 else f"r{made}"
            ops.append(replace(op, name=name))
        if op.resumable:
            ops += session_of(rng, ops[-1])
        made += copies
    names = [op.name for op in ops if op.kind == "add"]
    end = span + rng.choice([5, 20, 60])
    if chance(0.35):
        for name in rng.sample(names, max(1, len(names) // rng.choice([2, 5, 10]))):
            ops.append(Op(rng.randrange(end), "abort", name, late=chance(0.5)))
    if chance(0.15):
        ops += [Op(rng.randrange(end), "reset", value=chance(0.7)) for _ in range(rng.choice([1, 3]))]
    if chance(0.15):
        at = rng.randrange(end)
        ops.append(Op(at, "pause", value=rng.choice(["PAUSED_NEW", "PAUSED_ALL"])))
        ops.append(Op(at + rng.randrange(1, 15), "pause", value="UNPAUSED"))
    if chance(0.25):
        on = False
        for at in sorted(rng.sample(range(end), min(end, rng.choice([1, 2, 4])))):
            if chance(0.5):
                on = not on
                ops.append(Op(at, "kill", value=on))
            else:
                ops.append(Op(at, "switch", value=rng.choice([*strategies, *BOUNDED])))
                on = False
    return ops


def session_of(rng: random.Random, first: Op) -> list[Op]:
    """The later chunks of a streaming session, and its end."""
    at, later = first.at, []
    for _ in range(rng.choice([1, 2, 3])):
        at += rng.randrange(1, 25)
        later.append(Op(at, "chunk", first.name, rng.choice([1, 10, 30]), rng.choice([1, 4])))
    return [*later, Op(at + rng.randrange(1, 25), "end", first.name)]
