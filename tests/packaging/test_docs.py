"""The pages build without a warning, and those made from the code name everything there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from environment import ROOT
from omegaconf import OmegaConf

from bidkv.adapters.shared.meter import LIVE_METRICS
from bidkv.strategies import BUILT_IN
from tracking.cli import CONF
from tracking.metrics.catalogue import METRICS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def test_what_comes_from_the_code_is_current() -> None:
    command = [sys.executable, "scripts/docs_pages.py", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_is_short_and_says_which_memory_it_speaks_of() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 120
    (small,), (whole,) = (
        [line for line in lines if line.startswith(f"| **`backfill`, {size}")] for size in ("small", "whole")
    )
    assert "600 blocks" in small and "32 sequences" in small and "memory" in whole


def linked() -> list[tuple[Path, str]]:
    """Every link of a document to a place in this repository."""
    documents = [path for name in ("*.md", "examples/*.md", "docs/*.md") for path in sorted(ROOT.glob(name))]
    return [
        (path, link)
        for path in documents
        for link in re.findall(
            r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        )
        if not link.startswith(("http://", "https://", "mailto:"))
    ]


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    plain = [
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()) for title in titles
    ]
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize(("path", "link"), linked(), ids=lambda value: str(value).rpartition("/")[2])
def test_a_link_leads_somewhere_in_the_repository_too(path: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", str(target)], cwd=ROOT, capture_output=True
    )
    assert target.is_dir() or tracked.returncode == 0, f"{target} is not committed"
    if anchor and target.suffix == ".md":
        assert anchor in anchors(target), f"{target.name} has no heading for #{anchor}"


def text_of(site: Path, page: str) -> str:
    html = (site / page / "index.html").read_text()
    return unescape(re.sub(r"<[^>]+>", "", html))


def test_every_strategy_has_its_formula_and_its_sources(site: Path) -> None:
    text = text_of(site, "strategies")
    for cls in BUILT_IN:
        before, _, code = text.partition(f", configuration: conf/strategy/{cls.name}.yaml")
        section, _, files = before.rpartition("\nCode: ")
        section = section.rpartition("\nCode: ")[2]
        for policy in (cls.admission_class, cls.victim_class):
            assert policy.source in section and policy.__dict__["__doc__"], (cls.name, policy.name)
            assert f"{policy.__module__.replace('.', '/')}.py" in files, (cls.name, policy.name)


def test_every_metric_is_explained(site: Path) -> None:
    text = text_of(site, "metrics")
    for metric in METRICS.values():
        assert metric.name in text and " ".join(metric.doc.replace("`", "").split()) in " ".join(
            text.split()
        ), metric.name
    for live in LIVE_METRICS:
        assert live.name in text and live.help in text


def test_tables_that_pages_ask_for_are_there(site: Path) -> None:
    benchmark, verdict = text_of(site, "benchmark"), text_of(site, "verdict")
    assert all(path.stem in benchmark for path in (CONF / "workload").glob("*.yaml"))
    rules = OmegaConf.load(CONF / "guardrails" / "default.yaml").rules
    assert all(METRICS[rule.metric].title in verdict for rule in rules)


def test_every_page_is_in_the_navigation_and_asks_for_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"strategies", "metrics"}
    for page in pages - {"index"}:
        html = (site / page / "index.html").read_text()
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)', html)
        assert not [url for url in loaded if "canonical" not in url], (page, loaded)
        assert all(f'href="../{other}/"' in html for other in pages - {page, "index"}), page
