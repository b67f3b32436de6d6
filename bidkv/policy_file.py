"""A policy from a Python file, without a package: the name `my_policy.py:MyVictim` stands for the class."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType

from bidkv.admission.base import AdmissionPolicy
from bidkv.errors import BidValidationError
from bidkv.retention.base import Retention
from bidkv.strategies.base import Strategy
from bidkv.victim.base import VictimPolicy

PolicyClass = type[Strategy] | type[VictimPolicy] | type[AdmissionPolicy] | type[Retention]
KINDS = (Strategy, VictimPolicy, AdmissionPolicy, Retention)


def is_reference(name: str) -> bool:
    """Whether a strategy's or policy's name is a file and a class."""
    return name.rpartition(":")[0].endswith(".py")


def absolute(reference: str) -> str:
    """The reference with the whole path: other processes run elsewhere."""
    path, _, name = reference.rpartition(":")
    return f"{Path(path).expanduser().absolute()}:{name}"


def digest(reference: str) -> str:
    """Which text of the file a run had."""
    return hashlib.sha256(Path(reference.rpartition(":")[0]).read_bytes()).hexdigest()[:12]


def load_policy(reference: str) -> PolicyClass:
    """The class; the file is run anew each time. Raises `BidValidationError`, in one line, on one that is none."""
    path, _, name = reference.rpartition(":")
    module = _run(Path(path))
    classes = [key for key, value in vars(module).items() if _own_policy(value, module)]
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        known = ", ".join(classes) or "no Strategy, VictimPolicy, AdmissionPolicy or Retention"
        raise BidValidationError(f"{path}: no class {name!r}; it has {known}")
    if not issubclass(cls, KINDS):
        bases = ", ".join(base.__name__ for base in cls.__bases__)
        raise BidValidationError(
            f"{reference}: must be a subclass of bidkv's VictimPolicy, AdmissionPolicy, Retention or Strategy, is one of {bases}"
        )
    missing = [a for a in ("name", *_wanted(cls)) if not hasattr(cls, a)]
    missing += [f"{method}()" for method in sorted(getattr(cls, "__abstractmethods__", ()))]
    if missing:
        raise BidValidationError(f"{reference}: lacks {', '.join(missing)}")
    return cls


def where(error: BaseException, path: str | Path) -> str:
    """What a policy's own code raised, and the last of its lines that led there."""
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    place = f"line {lines[-1].lineno}: " if lines else ""
    return f"{place}{type(error).__name__}: {error}"


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise BidValidationError(f"no such file: {path}")
    name = f"bidkv_policy_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise BidValidationError(f"{path}: line {error.lineno}: SyntaxError: {error.msg}") from None
    except Exception as error:  # whatever a user's file does
        raise BidValidationError(f"{path}: {where(error, path)}") from None
    return module


def _own_policy(value: object, module: ModuleType) -> bool:
    own = isinstance(value, type) and value.__module__ == module.__name__
    return own and issubclass(value, KINDS) and not inspect.isabstract(value)


def _wanted(cls: type) -> tuple[str, ...]:
    return ("admission_class", "victim_class") if issubclass(cls, Strategy) else ()
