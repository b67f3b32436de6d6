"""Settings every test shares."""

from __future__ import annotations

import gc
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # a busy one makes any example slow
settings.load_profile("shared machine")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a hub, and none may wait for one
# vLLM, Ray and MLflow are half a million objects, looked through again and again.
gc.set_threshold(200_000, 20, 100)

COMMANDS = ("bench", "sim", "packaging")
"""Folders of tests most of whose time is that of commands and sweeps they start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left with one of them: real engines, then whole commands."""
    items.sort(key=lambda item: (not starts_engines(item.path), item.path.parent.name not in COMMANDS))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files that start real engines go to one worker, so that no two engines hold their memory at once."""
    from xdist.scheduler import LoadFileScheduling

    class EnginesTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "engines" if starts_engines(config.rootpath / file) else file

    return EnginesTogether(config, log)


@cache
def starts_engines(file: Path) -> bool:
    """Whether a test of `file` is marked so: the scheduler of tests knows no more of them than their names."""
    return any(f"mark.{name}" in file.read_text() for name in ("engine", "e2e"))


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of real traces beside the checkout; skips where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip(f"real traces are not here: {folder}")
    return folder
