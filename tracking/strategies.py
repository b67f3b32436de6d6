"""The order and the colour of each strategy, the same in every table and figure of every report."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

# Twelve colours that are told apart on white, also by most colour-blind readers (after Okabe and Ito, and Paul Tol).
BLACK, BLUE, SKY, RED, GREEN, OLIVE = "#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#999933"
ORANGE, PINK, WINE, GREY, INDIGO, BROWN = "#E69F00", "#CC79A7", "#882255", "#8A8A8A", "#332288", "#6F4A2D"
COLOURS = (BLACK, BLUE, SKY, RED, GREEN, OLIVE, ORANGE, PINK, WINE, GREY, INDIGO, BROWN)

# In this order; those of one colour are seldom in one sweep, and differ in mark and line.
KNOWN = {
    "stock-unmodified": GREY, "stock": BLACK, "preempt-evict": BLACK, "sglang_default": BLACK, "stock-again": BLACK,
    "stock-watermark-0.02": BROWN, "stock-watermark-0.05": INDIGO, "watermark": INDIGO, "stock-no-reserve": GREY,
    "stock-seqs-16": PINK, "stock-seqs-128": WINE, "stock-offload": SKY,
    "lcf": GREEN, "lcf-guard": SKY, "cost-aware": BLUE, "residual-cost": BROWN, "least-progress": OLIVE,
    "a-min": OLIVE, "priority": INDIGO, "slack_aware": INDIGO, "static-random": GREY, "largest-first": PINK,
    "bidkv": ORANGE, "bidkv2": ORANGE, "bidkv_radix": ORANGE,
    "boost": BLUE, "token-seconds": RED, "backfill": GREEN, "backfill-deep": OLIVE,
    "preempt-evict-sjf": WINE, "aged-sjf": PINK, "hrrn": BROWN, "peak-gate": PINK, "kept-first": BLUE,
    "predicted_oracle": GREY, "srpt_oracle": RED, "ratio_oracle": BROWN, "boost_oracle": BLUE,
    "token-seconds_oracle": RED,
}  # fmt: skip
MARKS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")

Look = tuple[str, str, str]  # colour, marker, line


def in_order(names: Iterable[str], first: str | None = None) -> list[str]:
    """Each name once: `first`, then those of KNOWN in its order, then the others by name."""
    places = {name: place for place, name in enumerate(KNOWN)}
    return sorted(set(names), key=lambda name: (name != first, places.get(name, len(places)), name))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """How each strategy is drawn. One that is not of KNOWN has the place that its name hashes to; only if
    another of `names` has it already, the next free one."""
    found = {name: _look(name) for name in in_order(names) if name in KNOWN}
    for name in in_order(names):
        if name not in KNOWN:
            found[name] = _free(name, [(look[0], look[1]) for look in found.values()])
    return found


def _look(name: str) -> Look:
    same = [other for other in KNOWN if KNOWN[other] == KNOWN[name]].index(name)
    return KNOWN[name], MARKS[same % len(MARKS)], LINES[same % len(LINES)]


def _free(name: str, taken: list[tuple[str, str]]) -> Look:
    start, colours = zlib.crc32(name.encode()), {colour for colour, _ in taken}
    for avoided in (colours, set()):  # a colour of its own while there is one
        for step in range(len(COLOURS) * len(MARKS)):
            place = (start + step) % (len(COLOURS) * len(MARKS))
            colour, mark = COLOURS[place % len(COLOURS)], MARKS[place // len(COLOURS)]
            if colour not in avoided and (colour, mark) not in taken:
                return colour, mark, LINES[place // len(COLOURS) % len(LINES)]
    return COLOURS[start % len(COLOURS)], MARKS[start % len(MARKS)], LINES[0]
