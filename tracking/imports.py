"""Importing what is large: vLLM, Ray, MLflow."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Without garbage collection, which would take a fifth of the time: the objects of a module stay anyway.

    If modules were imported, what exists afterwards is never looked through again.
    """
    was_on, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if was_on:
            gc.enable()
