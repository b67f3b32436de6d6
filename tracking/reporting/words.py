"""How metrics and effects are called where space is short."""

from __future__ import annotations

import numpy as np

from tracking.evidence.statistics import Interval, PairedTest
from tracking.metrics.catalogue import METRICS

NAMES = {"throughput_tok_s": "throughput", "throughput_req_s": "requests/s", "completion_rate": "completion",
         "slo_attainment": "within SLO", "e2e_largest_s": "E2E of largest 5 %", "ttft_largest_s": "TTFT of largest 5 %",
         "goodput_req_s": "goodput"}  # fmt: skip
STATISTICS = {"mean": "mean", "rmst": "mean", "p50": "p50", "p90": "p90", "p99": "p99"}
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
BIG = 2.0  # ratios from here on are written as such, not as percent


WHOLE = {"session": "session time"}
"""What of a metric's name is no abbreviation."""


def short_name(metric: str) -> str:
    """ "e2e_mean_s" as "mean E2E"; other names without their underscores."""
    parts = metric.split("_")
    if len(parts) == 3 and parts[2] == "s" and parts[1] in STATISTICS:
        return f"{STATISTICS[parts[1]]} {WHOLE.get(parts[0], parts[0].upper())}"
    return NAMES.get(metric, metric.replace("_", " "))


def change(ratio: Interval) -> str:
    """A ratio to the baseline as "-8 % [-11, -4]", or "2.6x [2.1, 3.3]" from twice on."""
    if not ratio.value < BIG:
        value, low, high = (_times(x) for x in (ratio.value, ratio.low, ratio.high))
        return f"{value}{TIMES} [{low}, {high}]" if ratio.low < ratio.high else f"{value}{TIMES}"
    ends = [100 * (x - 1) for x in (ratio.value, ratio.low, ratio.high)]
    finite = [abs(x) for x in ends if np.isfinite(x)]
    value, low, high = (_signed(x, 0 if max(finite) >= 10 else 1) for x in ends)
    return f"{value} % [{low}, {high}]" if ratio.low < ratio.high else f"{value} %"


def times(ratio: Interval) -> str:
    """The ratio alone: "2.6x"."""
    return _times(ratio.value) + TIMES


def effect(test: PairedTest, metric: str) -> str:
    """What a comparison shows: the ratio as a change, or the difference in the metric's unit."""
    if test.ratio:
        return change(test.ratio)
    scale = 100 if METRICS[metric].unit == "share" else 1
    shown = [
        _signed(scale * x, 2) for x in (test.difference.value, test.difference.low, test.difference.high)
    ]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def size(test: PairedTest, metric: str, comparisons: int) -> str:
    """The smallest difference that the test could have shown: "3.1 %", or "none"."""
    shown = test.smallest_shown(comparisons)
    if np.isnan(shown):
        return "-"
    if np.isinf(shown):
        return "none"
    if test.ratio or METRICS[metric].unit == "share":
        return f"{100 * shown:.{1 if shown < 0.1 else 0}f} %"
    return f"{shown:.3g} {METRICS[metric].unit}"


def _times(x: float) -> str:
    if np.isinf(x):
        return "\N{INFINITY}"
    return f"{x:.1f}" if x >= 1.95 else f"{x:.2f}"


def _signed(x: float, places: int) -> str:
    if np.isinf(x):
        return f"{MINUS if x < 0 else '+'}\N{INFINITY}"
    if np.isnan(x):
        return "?"
    text = f"{abs(x):.{places}f}"
    return text if float(text) == 0 else (MINUS if x < 0 else "+") + text
