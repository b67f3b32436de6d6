"""Fits the step-time model to the steps a real engine recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from ray_jobs.sim.calibration import EFFICIENCIES, OVERHEADS, Calibration
from ray_jobs.sim.hardware import Hardware
from ray_jobs.sim.roofline import BATCH_COLUMNS, StepTimeModel
from ray_jobs.sim.shape import ModelShape

MIN_STEPS = 100
SEGMENTS = 20  # of each log; held-out ones are spread over it
STALL = 10.0  # a step this many times longer than predicted counts as that long, no longer
EFFICIENCY_RANGE, OVERHEAD_RANGE = (1e-5, 100.0), (1e-9, 1.0)
PRIOR_WEIGHT = 0.1  # of the starting point, per factor of e; decides only what the steps do not
NEEDED = (*BATCH_COLUMNS, "step", "t", "dur")


@dataclass(frozen=True)
class StepErrors:
    """How well a fit predicts a set of steps. Shares, not percent."""

    steps: int
    seconds: float  # measured, in all
    total: float  # (predicted - measured) / measured, of all seconds
    median: float  # absolute error of a step, relative to its measured time
    p90: float


def step_periods(log: pd.DataFrame) -> pd.DataFrame:
    """The steps of one run that ran a batch, with `seconds`: from a step to the next, while there is work.

    `dur` ends with a step's output. What the engine does before it schedules again (inputs, outputs) also costs
    time; it is added where the next step still decodes, since then the engine was never idle, and
    its median elsewhere. Where steps overlap there is no such gap. Raises ValueError on missing columns.
    """
    missing = [name for name in NEEDED if name not in log]
    if missing:
        raise ValueError(f"not a step log: no column {', '.join(missing)}")
    log = log.sort_values("step").reset_index(drop=True)
    starts, gap, end = log["t"].to_numpy(float), np.full(len(log), np.nan), -np.inf
    for i, seconds in enumerate(log["dur"].to_numpy(float)):
        if i:
            gap[i - 1] = max(0.0, starts[i] - end)
        end = max(starts[i], end) + seconds
    busy = np.append(log["decode_reqs"].to_numpy()[1:] > 0, False)
    usual = float(np.median(gap[busy])) if busy.any() else 0.0
    log["seconds"] = log["dur"] + np.where(busy, gap, usual)
    ran = (log["prefill_tokens"] + log["decode_tokens"] > 0) & (log["seconds"] > 0)
    return log[ran].reset_index(drop=True)


def split(periods: pd.DataFrame, hold_out: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps to fit and steps to check: whole stretches of the run, spread evenly, of which a share is held out."""
    segment = np.arange(len(periods)) * SEGMENTS // max(1, len(periods))
    held = np.floor((segment + 1) * hold_out) > np.floor(segment * hold_out)
    return periods[~held], periods[held]


def fit(
    logs: Sequence[pd.DataFrame], shape: ModelShape, hardware: Hardware, start: Calibration, hold_out: float
) -> tuple[Calibration, StepErrors, StepErrors]:
    """The calibration, its errors on the steps it was fitted to, and on those held out.

    A robust fit of relative errors finds the shape; then all times are scaled so that the sum of seconds is
    right, stalls included up to `STALL` times. Raises ValueError on too few steps.
    """
    parts = [split(step_periods(log), hold_out) for log in logs]
    train = pd.concat([train for train, _ in parts], ignore_index=True)
    held = pd.concat([held for _, held in parts], ignore_index=True)
    if len(train) < MIN_STEPS or not len(held):
        raise ValueError(
            f"steps: {len(train)} steps to fit and {len(held)} to check, need at least {MIN_STEPS} and 1"
        )
    names = [n for n in (*EFFICIENCIES, *OVERHEADS) if n != "link_efficiency" or shape.tensor_parallel > 1]
    measured = train["seconds"].to_numpy()
    scale = np.sqrt(measured * np.median(measured))

    def calibration(x: np.ndarray) -> Calibration:
        return replace(start, **dict(zip(names, np.exp(x).tolist(), strict=True)))

    def predict(x: np.ndarray) -> np.ndarray:
        return StepTimeModel(shape, hardware, calibration(x)).seconds_of(train)

    low, high = np.log([EFFICIENCY_RANGE if n in EFFICIENCIES else OVERHEAD_RANGE for n in names]).T
    best = None
    for overhead in (1.0, 0.1, 10.0):  # the kinks of the rooflines make local optima
        x0 = np.log([max(getattr(start, n), 1e-6) * (overhead if n in OVERHEADS else 1) for n in names])
        x0 = np.clip(x0, low + 1e-3, high - 1e-3)

        def residuals(x: np.ndarray, x0: np.ndarray = x0) -> np.ndarray:
            return np.concatenate([(predict(x) - measured) / scale, PRIOR_WEIGHT * (x - x0)])

        found = least_squares(residuals, x0, bounds=(low, high), loss="soft_l1", f_scale=0.1, max_nfev=200)
        if best is None or found.cost < best.cost:
            best = found
    predicted = predict(best.x)
    factor = np.minimum(measured, STALL * predicted).sum() / predicted.sum()
    shift = np.array([-np.log(factor) if n in EFFICIENCIES else np.log(factor) for n in names])
    fitted = calibration(np.clip(best.x + shift, low, high))
    model = StepTimeModel(shape, hardware, fitted)
    return fitted, errors(model, train), errors(model, held)


def errors(model: StepTimeModel, periods: pd.DataFrame) -> StepErrors:
    measured, predicted = periods["seconds"].to_numpy(), model.seconds_of(periods)
    relative = np.abs(predicted - measured) / measured
    return StepErrors(
        steps=len(periods),
        seconds=float(measured.sum()),
        total=float(predicted.sum() / measured.sum() - 1),
        median=float(np.median(relative)),
        p90=float(np.quantile(relative, 0.9)),
    )
