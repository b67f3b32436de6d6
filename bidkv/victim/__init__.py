"""Rules of who is preempted, one a file; the file is named like the rule, with `_` for `-`.

A file in this folder is all it takes: what it defines is found by its class. What rules share is in files named for
it: `kept_share.py`, `remaining.py`.
"""

from __future__ import annotations

import sys

from bidkv.named import named_classes
from bidkv.victim.base import VictimPolicy

RULES: tuple[type[VictimPolicy], ...] = tuple(named_classes(sys.modules[__name__], VictimPolicy))
"""What `create_default_registry` registers."""
