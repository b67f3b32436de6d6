"""Settings every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a hub, and none may wait for one


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of real traces beside the checkout; skips where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip(f"real traces are not here: {folder}")
    return folder
