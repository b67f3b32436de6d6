"""Environments that hold this project's dependencies, but not this project until a test installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import hydra

ROOT = Path(__file__).parents[2]
DEPENDENCIES = Path(hydra.__file__).parents[1]


class Environment:
    """A fresh virtual environment that sees the packages of the one under test."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=False, symlinks=True)
        self.bin = folder / "bin"
        site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        # A .pth adds a folder, but not what that folder's own .pth files add: no editable install of ours.
        (site / "dependencies.pth").write_text(f"{DEPENDENCIES}\n")

    def pip_install(self, *what: str) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "-q"]
        done = run_outside([*pip, "--no-deps", "--no-build-isolation", "--no-index", *what], ROOT)
        assert done.returncode == 0, done.stderr

    def run(self, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs one of the environment's commands in `folder`."""
        return run_outside([str(self.bin / command[0]), *command[1:]], folder, variables)


def run_outside(
    command: list[str], folder: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder` without PYTHONPATH, which may point at the checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=environment | (variables or {}), capture_output=True, text=True, timeout=600
    )
