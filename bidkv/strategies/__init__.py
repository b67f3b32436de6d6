"""Strategies, one a file; the file is named like the strategy, with `_` for `-`.

A file in this folder is all it takes: what it defines is found by its class.
"""

from __future__ import annotations

import sys

from bidkv.named import named_classes
from bidkv.strategies.base import AdmissionPolicy, Strategy, VictimPolicy

_PACKAGE = sys.modules[__name__]

BUILT_IN: tuple[type[Strategy], ...] = tuple(named_classes(_PACKAGE, Strategy))
POLICIES: tuple[type[VictimPolicy | AdmissionPolicy], ...] = tuple(
    named_classes(_PACKAGE, VictimPolicy, AdmissionPolicy)
)
"""What `create_default_registry` registers. Each class is an attribute of this package too."""

globals().update({cls.__name__: cls for cls in BUILT_IN})

__all__ = ["BUILT_IN", "POLICIES", *(cls.__name__ for cls in BUILT_IN)]
