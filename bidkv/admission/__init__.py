"""Rules of admission, one a file; the file is named like the rule, with `_` for `-`.

A file in this folder is all it takes: what it defines is found by its class. What rules share is in files named for
it: `sizes.py`.
"""

from __future__ import annotations

import sys

from bidkv.admission.base import AdmissionPolicy
from bidkv.named import named_classes

RULES: tuple[type[AdmissionPolicy], ...] = tuple(named_classes(sys.modules[__name__], AdmissionPolicy))
"""What `create_default_registry` registers."""
