"""Strategies: named triples of rules from `bidkv.admission`, `bidkv.victim` and `bidkv.retention`.

All of this package's are in `triples.py`; each class is an attribute of this package too.
"""

from __future__ import annotations

import sys

from bidkv.named import named_classes
from bidkv.strategies.base import Strategy

BUILT_IN: tuple[type[Strategy], ...] = tuple(named_classes(sys.modules[__name__], Strategy))
"""What `create_default_registry` registers."""

globals().update({cls.__name__: cls for cls in BUILT_IN})

__all__ = ["BUILT_IN", *(cls.__name__ for cls in BUILT_IN)]
