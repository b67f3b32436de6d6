"""How metrics lie in MLflow, whose store and plots cannot hold infinity.

The contract between who writes metrics and who reads them:

- In Python a metric whose value falls on requests that failed is `math.inf`: such a percentile is longer
  than anything measured. A strategy that fails must lose, so it is not left out.
- In MLflow infinity is the metric `<name>.censored` = 1, and `<name>` itself is absent. All other values
  lie under their own names. `failed_share` says what part of the requests failed.
- A metric that is in neither form was not measured (no preemption, too short a tail for a p99). Runs
  stored before have no `.censored` and read as they did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

CENSORED = ".censored"


def to_store(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a run as MLflow holds them."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return finite | {name + CENSORED: 1.0 for name in metrics if name not in finite}


def from_store(stored: Mapping[str, float]) -> dict[str, float]:
    """What `to_store` was given."""
    return {
        name.removesuffix(CENSORED): math.inf if name.endswith(CENSORED) else value
        for name, value in stored.items()
    }
