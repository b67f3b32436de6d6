"""Engines by kind. Each module imports its engine only when one is made."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ray_jobs.engines.config import EngineConfig
from tracking.imports import large_imports

if TYPE_CHECKING:  # configurations are in this package too, and need neither pandas nor pyarrow
    from ray_jobs.engines.shared.base import EngineBackend


def make_backend(config: EngineConfig, folder: Path) -> EngineBackend:
    """The backend `ray_jobs/engines/<kind>.py` defines as `Backend`; of several real engines that of `serve/fleet.py`."""
    served = config.replicas > 1 and config.runs_for_real
    with large_imports():
        module = import_module(f"ray_jobs.engines.{'serve.fleet' if served else config.kind}")
    return module.Backend(config, folder)
