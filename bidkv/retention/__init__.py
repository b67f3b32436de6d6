"""Rules of retention, one a file; the file is named like the rule.

A file in this folder is all it takes: what it defines is found by its class.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from bidkv.retention.base import Retention


def _named_rules() -> tuple[type[Retention], ...]:
    modules = [import_module(f"{__name__}.{info.name}") for info in iter_modules(__path__)]
    found = [cls for module in modules for cls in vars(module).values() if _is_own(cls, module.__name__)]
    return tuple(sorted(found, key=lambda cls: cls.name))


def _is_own(cls: object, module: str) -> bool:
    own = isinstance(cls, type) and cls.__module__ == module
    return own and issubclass(cls, Retention) and hasattr(cls, "name")


RULES = _named_rules()
"""What `create_default_registry` registers."""
