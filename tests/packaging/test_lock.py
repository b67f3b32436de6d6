"""The versions that `make env` installs: they satisfy pyproject.toml, and they are those that these tests run on."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version

from environment import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = dict(
    line.split("==")
    for line in (ROOT / "scripts" / "lock.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
LOCKED = {canonicalize_name(name): pinned for name, pinned in LOCK.items()}


def extras() -> list[str]:
    """Those that the Makefile installs."""
    (names,) = re.findall(r"^EXTRAS := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return names.split(",")


def test_every_requirement_of_the_environment_is_locked_within_its_range() -> None:
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in extras():
        for requirement in map(Requirement, optional[extra]):
            pinned = LOCKED[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pinned, prereleases=True), (
                f"{requirement}: locked is {pinned}"
            )


def test_what_is_locked_is_what_is_tested() -> None:
    other = {}
    for name, pinned in LOCKED.items():
        try:
            if version(name) != pinned:
                other[name] = version(name)
        except PackageNotFoundError:  # of another Python
            continue
    assert not other, f"`make lock` brings scripts/lock.txt up to date; installed are {other}"


def test_the_makefile_installs_from_the_lock_and_refreshes_it_by_one_command() -> None:
    plan = subprocess.run(
        ["make", "--no-print-directory", "-n", "env", "VENV=no-such-folder"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert f"install -q -c scripts/lock.txt -e '.[{','.join(extras())}]'" in plan.replace(
        "--index-strategy unsafe-best-match ", ""
    )
    plan = subprocess.run(
        ["make", "--no-print-directory", "-n", "lock"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert plan.startswith("scripts/lock.sh ")
