"""Whether the simulator, given what was recorded, does what was recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ray_jobs.advise.lab import Lab
from ray_jobs.advise.space import Candidate

MOST = 1500  # requests, from the first on, since the engine was idle then
FAR = 0.1  # from which on a difference of a mean is a warning


@dataclass(frozen=True)
class Reproduction:
    """The same requests recorded and simulated: mean and p99 of E2E in seconds, and preemptions."""

    requests: int
    recorded: tuple[float, float, int]
    simulated: tuple[float, float, int]

    @property
    def off(self) -> tuple[float, float]:
        """By how much the simulated mean and p99 differ, as shares."""
        return self.simulated[0] / self.recorded[0] - 1, self.simulated[1] / self.recorded[1] - 1

    @property
    def text(self) -> str:
        (mean, p99), far = self.off, max(map(abs, self.off))
        doubt = "; that is far: what follows is a guess" if far > FAR else ""
        return (
            f"simulated, the first {self.requests:,} requests have a mean E2E of {self.simulated[0]:.3g} s "
            f"({mean:+.1%}), p99 {self.simulated[1]:.3g} s ({p99:+.1%}), {self.simulated[2]} preemptions "
            f"(recorded {self.recorded[2]}){doubt}"
        )


def reproduce(lab: Lab, stock: Candidate, latencies: pd.DataFrame) -> Reproduction | None:
    """`latencies` are the recorded ones by arrival; None if the simulation did not run."""
    count = min(MOST, len(latencies))
    workload = lab.config.workload
    whole = replace(
        workload, num_requests=count, warmup_requests=0, source=replace(workload.source, pick="head")
    )
    (run,) = lab.run("what was recorded, simulated", [(stock, whole, 0)]).values()
    if run.failed:
        return None
    first = latencies.head(count)
    e2e = run.latencies["e2e"].dropna().to_numpy(float)
    return Reproduction(
        count,
        (
            float(first["e2e_s"].mean()),
            float(np.quantile(first["e2e_s"], 0.99)),
            int(first["preemptions"].sum()),
        ),
        (float(e2e.mean()), float(np.quantile(e2e, 0.99)), int(run.metrics["preemptions"])),
    )
