"""Fits the step-time model to the steps a real engine recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from ray_jobs.engines.sim.calibration import EFFICIENCIES, OVERHEADS, Calibration
from ray_jobs.engines.sim.hardware import Hardware
from ray_jobs.engines.sim.roofline import BATCH_COLUMNS, StepTimeModel
from ray_jobs.engines.sim.shape import ModelShape
from ray_jobs.engines.sim.work import Work

MIN_STEPS = 100
SEGMENTS = 20  # of each log; held-out ones are spread over it
OVERLAP_WINDOW = 16  # steps that are timed together where one is scheduled while another runs
STALL = 10.0  # a step this many times longer than predicted counts as that long, no longer
# What kernels reach of a data sheet's peaks: matrix products at the power limit, memory as STREAM reads it, attention
# as FlashAttention-3 does on an H100 (Shah et al. 2024: 740 of 989 TFLOP/s). Few steps would else trade one for another.
PHYSICAL = {
    "compute_efficiency": (0.1, 0.85), "bandwidth_efficiency": (0.1, 0.95),
    "attention_compute_efficiency": (0.05, 0.75), "attention_bandwidth_efficiency": (0.1, 0.95),
    "link_efficiency": (0.05, 0.95),
}  # fmt: skip
NOMINAL_RANGE, OVERHEAD_RANGE = (1e-5, 100.0), (1e-9, 1.0)
UNSURE = 0.25  # standard error of a factor, as a share of it, from which on the steps do not tell it
REACH = ("prefill_tokens", "decode_reqs", "context_tokens", "prefill_context")  # of the steps fitted to
PRIOR_WEIGHT = 0.1  # of the starting point, per factor of e; decides only what the steps do not
NEEDED = (*BATCH_COLUMNS, "step", "t", "dur")


@dataclass(frozen=True)
class StepErrors:
    """How well a fit predicts a set of steps. Shares, not percent."""

    steps: int
    window: int  # how many steps are timed together: 1, or OVERLAP_WINDOW
    seconds: float  # measured, in all
    total: float  # (predicted - measured) / measured, of all seconds
    median: float  # absolute error of a window, relative to its measured time
    p90: float


def step_periods(log: pd.DataFrame) -> pd.DataFrame:
    """The steps of one run that ran a batch, with `seconds`: from a step to the next, while there is work.

    `dur` ends with a step's output. What the engine does before it schedules again (inputs, outputs) also costs
    time; it is added where the next step still decodes, since then the engine was never idle, and
    its median elsewhere. Where steps overlap (async scheduling) there is no such gap, but a step's `dur` has part
    of its neighbours' time: launching a prefill delays the output of the step before it. `window` numbers the
    steps to be timed together: each alone, or OVERLAP_WINDOW where they overlap. Of several replicas each is timed by
    itself. Raises ValueError on missing columns.
    """
    missing = [name for name in NEEDED if name not in log]
    if missing:
        raise ValueError(f"not a step log: no column {', '.join(missing)}")
    if "replica" not in log:
        return _periods_of_one(log)
    frames, windows = [], 0
    for _, its in log.groupby("replica"):
        periods = _periods_of_one(its)
        frames.append(periods.assign(window=periods["window"] + windows))
        windows += len(periods)
    return pd.concat(frames, ignore_index=True)


def _periods_of_one(log: pd.DataFrame) -> pd.DataFrame:
    log = log.sort_values("step").reset_index(drop=True)
    starts, gap, end = log["t"].to_numpy(float), np.full(len(log), np.nan), -np.inf
    overlaps = 0
    for i, seconds in enumerate(log["dur"].to_numpy(float)):
        if i:
            gap[i - 1] = max(0.0, starts[i] - end)
            overlaps += starts[i] < end
        end = max(starts[i], end) + seconds
    busy = np.append(log["decode_reqs"].to_numpy()[1:] > 0, False)
    usual = float(np.median(gap[busy])) if busy.any() else 0.0
    log["seconds"] = log["dur"] + np.where(busy, gap, usual)
    ran = (log["prefill_tokens"] + log["decode_tokens"] > 0) & (log["seconds"] > 0)
    log = log[ran].reset_index(drop=True)
    log["window"] = np.arange(len(log)) // (OVERLAP_WINDOW if 2 * overlaps > len(log) else 1)
    return log


def split(periods: pd.DataFrame, hold_out: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps to fit and steps to check: whole stretches of the run, spread evenly, of which a share is held out."""
    windows = periods["window"].to_numpy()
    segment = windows * SEGMENTS // max(1, len(np.unique(windows)))
    held = np.floor((segment + 1) * hold_out) > np.floor(segment * hold_out)
    return periods[~held], periods[held]


def fit(
    logs: Sequence[pd.DataFrame],
    shape: ModelShape,
    hardware: Hardware,
    start: Calibration,
    hold_out: float,
    work: Work | None = None,
) -> tuple[Calibration, StepErrors, StepErrors]:
    """The calibration, its errors on the steps it was fitted to, and on those held out.

    Its `origin` says how far the fitted steps reach (the largest of each sum of a batch), and which factors
    they do not tell: at a physical bound, or with a standard error beyond `UNSURE`.

    A robust fit of relative errors finds the shape; then all times are scaled so that the sum of seconds is
    right, stalls included up to `STALL` times. Raises ValueError on too few steps.
    """
    parts = [split(step_periods(log), hold_out) for log in logs]
    train = _joined([train for train, _ in parts])
    held = _joined([held for _, held in parts])
    if len(train) < MIN_STEPS or not len(held):
        raise ValueError(
            f"steps: {len(train)} steps to fit and {len(held)} to check, need at least {MIN_STEPS} and 1"
        )
    names = [n for n in (*EFFICIENCIES, *OVERHEADS) if n != "link_efficiency" or shape.tensor_parallel > 1]
    measured = _by_window(train, train["seconds"].to_numpy())
    scale = np.sqrt(measured * np.median(measured))

    def calibration(x: np.ndarray) -> Calibration:
        return replace(start, **dict(zip(names, np.exp(x).tolist(), strict=True)))

    def predict(x: np.ndarray) -> np.ndarray:
        return _by_window(train, StepTimeModel(shape, hardware, calibration(x), work).seconds_of(train))

    ranges = dict.fromkeys(EFFICIENCIES, NOMINAL_RANGE) if hardware.nominal else PHYSICAL
    low, high = np.log([ranges.get(n, OVERHEAD_RANGE) for n in names]).T
    best = None
    for overhead, launches in product(
        (1.0, 0.1, 10.0), (1e-6, 1e-2)
    ):  # the rooflines' kinks make local optima
        guess = replace(start, prefill_step_s=max(start.prefill_step_s, launches))
        x0 = np.log([max(getattr(guess, n), 1e-6) * (overhead if n in OVERHEADS else 1) for n in names])
        x0 = np.clip(x0, low + 1e-3, high - 1e-3)

        def residuals(x: np.ndarray, x0: np.ndarray = x0) -> np.ndarray:
            return np.concatenate([(predict(x) - measured) / scale, PRIOR_WEIGHT * (x - x0)])

        found = least_squares(residuals, x0, bounds=(low, high), loss="soft_l1", f_scale=0.1, max_nfev=200)
        if best is None or found.cost < best.cost:
            best = found
    predicted = predict(best.x)
    factor = np.minimum(measured, STALL * predicted).sum() / predicted.sum()
    shift = np.array([-np.log(factor) if n in EFFICIENCIES else np.log(factor) for n in names])
    x = np.clip(best.x + shift, low, high)
    origin = {
        "reach": {name: float(train[name].max()) for name in REACH},
        "not_told": [n for n, unsure in zip(names, _not_told(best, x, low, high), strict=True) if unsure],
    }
    fitted = replace(calibration(x), origin=origin)
    model = StepTimeModel(shape, hardware, fitted, work)
    return fitted, errors(model, train), errors(model, held)


def _not_told(found: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which factors the steps alone do not tell: the prior's rows, the last ones, are left out."""
    count = len(x)
    rows = found.jac[:-count]
    variance = 2 * found.cost / max(1, len(rows) - count)
    spread = variance * np.diag(np.linalg.pinv(rows.T @ rows))
    # Below zero: two factors cannot be told apart at all.
    errors = np.sqrt(np.where(spread < 0, np.inf, spread))
    flat = np.abs(rows).max(axis=0) < 1e-9  # no step depends on it at all
    bound = (x - low < 1e-3) | (high - x < 1e-3)
    return (errors > UNSURE) | flat | bound


def _joined(logs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The logs one after another; windows keep apart and count on."""
    joined = pd.concat(logs, keys=range(len(logs)), names=["log"]).reset_index("log")
    joined["window"] = joined.groupby(["log", "window"], sort=False).ngroup()
    return joined.reset_index(drop=True)


def _by_window(periods: pd.DataFrame, seconds: np.ndarray) -> np.ndarray:
    """Sums of `seconds` (a value a step) over each window."""
    return np.bincount(periods["window"], seconds)


def errors(model: StepTimeModel, periods: pd.DataFrame) -> StepErrors:
    """Errors of the windows' times; `periods` as `_joined` gives them."""
    measured = _by_window(periods, periods["seconds"].to_numpy())
    predicted = _by_window(periods, model.seconds_of(periods))
    relative = np.abs(predicted - measured) / measured
    return StepErrors(
        steps=len(periods),
        window=round(len(periods) / len(measured)),
        seconds=float(measured.sum()),
        total=float(predicted.sum() / measured.sum() - 1),
        median=float(np.median(relative)),
        p90=float(np.quantile(relative, 0.9)),
    )
