"""What a simulation's times rest on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tracking.store.reader import StoredRun

CALIBRATION = "engine.sim.calibration."
REACH = {
    "decode_reqs": "requests decoding in a step", "context_tokens": "tokens of context in a step",
    "prefill_tokens": "prompt tokens in a step", "prefill_context": "tokens before a step's prefills",
}  # fmt: skip


def guessed(tags: Mapping[str, str]) -> str | None:
    """A note if a run's step times were never measured with its model on its device: its `calibration` then says why."""
    calibration = tags.get("calibration", "")
    return f"simulated times are a guess: {calibration}" if calibration.endswith(")") else None


def beyond_fit(runs: Iterable[StoredRun]) -> list[str]:
    """Notes on steps larger than any that the step times were fitted to, and on a fit that does not say how large.

    A line for each sum of a batch that some run passed: how far, in how many runs.
    """
    fitted = [run for run in runs if run.params.get(f"{CALIBRATION}fitted") == "True"]
    passed: dict[str, list[tuple[float, float]]] = {}
    unknown = 0
    for run in fitted:
        limits = {name: run.params.get(f"{CALIBRATION}origin.reach.{name}") for name in REACH}
        unknown += None in limits.values()
        for name, limit in limits.items():
            seen = run.metrics.get(f"step_{name}_max")
            if limit is not None and seen is not None and seen > float(limit):
                passed.setdefault(name, []).append((seen, float(limit)))
    notes = [
        f"simulated beyond what was fitted in {len(cases)} of {len(fitted)} runs: up to {max(cases)[0]:.0f} "
        f"{REACH[name]}, fitted to {max(cases)[1]:.0f}"
        for name, cases in passed.items()
    ]
    return notes + (
        ["how large the steps were that the simulated times were fitted to is not known"] if unknown else []
    )
