from __future__ import annotations

import sys

import pytest
from environment import ROOT, Environment, run_outside


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with this project's wheel, built here."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    built = run_outside([*pip, str(ROOT)], ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    environment = Environment(folder / "venv")
    environment.pip_install(str(wheel))
    return environment
