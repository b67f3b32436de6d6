"""The classes of a package whose files are named like what they define."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def named_classes(package: ModuleType, *kinds: type) -> Iterator[type]:
    """Classes of these kinds that have a name, by file and then as written."""
    for module_name in sorted(info.name for info in iter_modules(package.__path__)):
        module = import_module(f"{package.__name__}.{module_name}")
        for cls in vars(module).values():
            own = isinstance(cls, type) and cls.__module__ == module.__name__
            if own and issubclass(cls, kinds) and hasattr(cls, "name"):
                yield cls
