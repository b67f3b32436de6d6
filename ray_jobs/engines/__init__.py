"""Engines by kind. Each module imports its engine only when one is made."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.shared.base import EngineBackend
from tracking.imports import large_imports


def make_backend(config: EngineConfig, folder: Path) -> EngineBackend:
    """The backend `ray_jobs/engines/<kind>.py` defines as `Backend`."""
    with large_imports():
        module = import_module(f"ray_jobs.engines.{config.kind}")
    return module.Backend(config, folder)
