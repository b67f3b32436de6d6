"""Rules of retention, one a file; the file is named like the rule, with `_` for `-`.

A file in this folder is all it takes: what it defines is found by its class. What rules share is in files named for
it: `learning.py`, `returns.py`.
"""

from __future__ import annotations

import sys

from bidkv.named import named_classes
from bidkv.retention.base import Retention

RULES: tuple[type[Retention], ...] = tuple(named_classes(sys.modules[__name__], Retention))
"""What `create_default_registry` registers."""
