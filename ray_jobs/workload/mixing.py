"""An order in which every stretch has some of everything."""

from __future__ import annotations

from math import sqrt

import numpy as np

GOLDEN = (sqrt(5) - 1) / 2


def mixed_order(count: int) -> np.ndarray:
    """The places 0 to below `count`, by multiples of the golden ratio, modulo 1, which are evenly spread."""
    return np.argsort(np.arange(count) * GOLDEN % 1.0)
