"""backfill with the true output lengths: what better predictions could gain it."""

from __future__ import annotations

from bidkv.admission.backfill import Backfill
from bidkv.lengths.estimates import TrueLengths


class BackfillOracle(Backfill):
    """As `backfill`; it knows how much the running ones will add."""

    name = "backfill_oracle"
    oracle = True
    lengths_class = TrueLengths
