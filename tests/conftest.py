"""Settings every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a hub, and none may wait for one


@pytest.hookimpl(tryfirst=True)  # xdist's own reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shares tests out to the workers of `make test`, first those that start real engines, one after another.

    The others stay together by file, so that what a file's tests share is made once.
    """
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        group = "engines" if starts_an_engine(item) else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not starts_an_engine(item))  # the longest group; stable


def starts_an_engine(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("engine", "e2e"))


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of real traces beside the checkout; skips where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip(f"real traces are not here: {folder}")
    return folder
