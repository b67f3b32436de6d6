"""Importing what is large: vLLM, Ray, MLflow."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Without garbage collection, which would take a fifth of the time: the objects of a module stay anyway.

    What exists afterwards is never looked through again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
