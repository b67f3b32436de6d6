"""Strategies, one a file; the file is named like the strategy, with `_` for `-`.

A file in this folder is all it takes: what it defines is found by its class.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from bidkv.strategies.base import AdmissionPolicy, Strategy, VictimPolicy


def _named_classes(*kinds: type) -> Iterator[type]:
    """Classes of these kinds that have a name, by file and then as written."""
    for module_name in sorted(info.name for info in iter_modules(__path__)):
        module = import_module(f"{__name__}.{module_name}")
        for cls in vars(module).values():
            own = isinstance(cls, type) and cls.__module__ == module.__name__
            if own and issubclass(cls, kinds) and hasattr(cls, "name"):
                yield cls


BUILT_IN: tuple[type[Strategy], ...] = tuple(_named_classes(Strategy))
POLICIES: tuple[type[VictimPolicy | AdmissionPolicy], ...] = tuple(
    _named_classes(VictimPolicy, AdmissionPolicy)
)
"""What `create_default_registry` registers. Each class is an attribute of this package too."""

globals().update({cls.__name__: cls for cls in BUILT_IN})

__all__ = ["BUILT_IN", "POLICIES", *(cls.__name__ for cls in BUILT_IN)]
