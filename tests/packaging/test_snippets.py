"""What documents tell a reader to type works: Python runs, commands compose."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from environment import ROOT
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from ray_jobs.advise.no_effect import idle_recommend_keys
from ray_jobs.drive.no_effect import idle_capacity_keys, refuse_no_effect
from ray_jobs.engines.sim.shape import ModelShape
from ray_jobs.freeze import idle_keys
from ray_jobs.try_policy import planned
from tracking.cli import CONF
from tracking.typed import refuse_idle, typed_keys

DOCUMENTS = [path for name in ("*.md", "examples/*.md", "docs/*.md") for path in sorted(ROOT.glob(name))]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
ORIGINAL = """
from bidkv import BaselineRegistry, BidKVStrategy, PreemptEvictStrategy
registry = BaselineRegistry(); registry.create_default_registry()
registry2 = BaselineRegistry(); registry2.register(BidKVStrategy()); registry2.register(PreemptEvictStrategy())
registry2.get("bidkv").name; registry2.list_strategies()
"""


def blocks(language: str) -> Iterator[str]:
    for path in DOCUMENTS:
        yield from re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def typed() -> list[str]:
    """Command lines of the documents, and the examples of each command's help."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    for path in sorted(CONF.glob("*.yaml")):
        text = OmegaConf.select(OmegaConf.load(path), "hydra.help.template") or ""
        lines += [
            re.split(r"\s{3,}", line.strip())[0] for line in text.splitlines() if line.startswith("  bidkv-")
        ]
    return [re.sub(r"\s+# .*", "", line) for line in lines]


TYPED = typed()
OURS = re.compile(r"python -m ((?:ray_jobs|tracking|bidkv)[\w.]+)|^(bidkv-\w+)")


def test_the_originals_snippet_runs_as_written() -> None:
    scope: dict = {}
    exec(ORIGINAL, scope)
    assert scope["registry"].get("bidkv").name == scope["registry2"].get("bidkv").name == "bidkv"
    assert scope["registry2"].list_strategies() == ["bidkv", "preempt-evict"]


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_runs(code: str) -> None:
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("line", [line for line in TYPED if OURS.search(line)])
def test_a_command_of_ours_composes(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, script = OURS.search(line).groups()
    module = module or SCRIPTS[script].partition(":")[0]
    assert find_spec(module), line
    name = "config" if module == "ray_jobs.run" else module.rpartition(".")[2]
    words = shlex.split(line[OURS.search(line).end() :])
    if words[:1] == ["try"]:
        tried(words[1:], tmp_path, monkeypatch)
        return
    if any(".py:" in word for word in words):
        write_own_policy(tmp_path, monkeypatch)
    if any(word.endswith("=config.json") for word in words):
        write_own_model(tmp_path, monkeypatch)
    if (CONF / f"{name}.yaml").exists():
        import_module(module)  # registers the schema
        compose_first(name, words)


def write_own_policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's `my_policy.py`, as docs/write-a-policy.md writes it, in the folder we are in."""
    code = re.search(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "write-a-policy.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (folder / "my_policy.py").write_text(code[1])
    monkeypatch.chdir(folder)


def write_own_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's `config.json`, in the folder we are in."""
    shape = ModelShape(**OmegaConf.to_container(OmegaConf.load(CONF / "model_shape" / "qwen2.5-7b.yaml")))
    shape.write_config(folder, 8192)
    monkeypatch.chdir(folder)


def tried(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bidkv-bench try …` up to the sweep: the class is loaded, composed and asked."""
    write_own_policy(folder, monkeypatch)
    assert {job.strategy.label for job in planned(words)} >= {"my-victim"}


def compose_first(name: str, words: list[str]) -> None:
    """Composes the first combination of a sweep and lets the configuration check itself; `my-…` is the reader's."""
    flags = {key: value for key, _, value in (word.partition("=") for word in words) if key.startswith("--")}
    overrides = [
        word for word in words if "=" in word and not word.startswith("-") and not re.search("@.*=my-", word)
    ]
    if "--config-dir" in flags:
        overrides.append(f"hydra.searchpath=[file://{ROOT / flags['--config-dir']}]")
    parsed = OverridesParser.create().parse_overrides(overrides)
    first = BasicSweeper.split_arguments(parsed, None)[0][0]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, first, return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.cwd = str(ROOT)
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    if name == "config" and config.engine.python:
        config.engine.python = sys.executable  # `make env-sglang` makes the one that is named
    if not flags.keys() & {"--cfg", "--help", "--config-dir"}:  # there, a package of one's own may be missing
        has_effect(name, OmegaConf.to_object(config), first)


def has_effect(name: str, job: Any, words: list[str]) -> None:
    """Every key that a document tells a reader to type changes something."""
    if name == "config":
        refuse_no_effect([(job, words)])
        return
    idle = {
        "recommend": lambda: idle_recommend_keys(job),
        "capacity": lambda: idle_capacity_keys(job),
        "freeze": lambda: idle_keys(job.workload),
    }.get(name, tuple)
    refuse_idle(typed_keys(words), idle())


@pytest.mark.parametrize("line", sorted({line for line in TYPED if line.startswith("make ")}))
def test_make_knows_its_targets(line: str) -> None:
    done = subprocess.run(["make", "-n", line.split()[1]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_line_is_shell() -> None:
    done = subprocess.run(["bash", "-n"], input="\n".join(TYPED), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_image_is_made_with_the_readmes_commands() -> None:
    steps = re.findall(r"^(?:RUN|CMD) (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    known = {command.strip() for line in TYPED for command in line.split("&&")}
    assert steps and set(steps) <= known


def test_the_layouts_picture_shows_what_is_there() -> None:
    (picture,) = (block for block in blocks("text") if block.startswith("ray_jobs/"))
    rooms = re.findall(r"^(ray_jobs|tracking|bidkv)/(.*?)(?=^\S+/ |\Z)", picture, re.DOTALL | re.MULTILINE)
    assert [room for room, _ in rooms] == ["ray_jobs", "tracking", "bidkv"], (
        "as the first contract of the imports"
    )
    for room, inside in rooms:
        drawn = {name.split("/")[0] for name in re.findall(r"([a-z_]+(?:/[a-z]+)*)/", inside)}
        packages = {path.parent.name for path in (ROOT / room).glob("*/__init__.py")}
        nested = {path.parent.name for path in (ROOT / room).glob("*/*/__init__.py")}
        assert packages <= drawn <= packages | nested, room
