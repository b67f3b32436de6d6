"""Large imports leave the garbage collector as it was, and freeze only what they brought."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from tracking.cli import CONF
from tracking.imports import large_imports


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_as_before_even_if_an_import_fails(collecting: bool) -> None:
    (gc.enable if collecting else gc.disable)()
    with pytest.raises(ImportError), large_imports():
        assert not gc.isenabled()
        import no_such_module  # noqa: F401
    assert gc.isenabled() == collecting


def test_only_new_modules_are_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought_here.py").write_text("objects = [[n] for n in range(1000)]")
    monkeypatch.syspath_prepend(str(tmp_path))
    gc.unfreeze()
    for _ in range(2):  # an engine made again imports nothing: its garbage must not be kept
        gc.unfreeze()
        known = "brought_here" in sys.modules
        with large_imports():
            import brought_here
        assert (gc.get_freeze_count() == 0) == known
    assert len(brought_here.objects) == 1000
    del sys.modules["brought_here"]


def test_bad_input_and_small_sweeps_wait_for_nothing_that_they_do_not_need() -> None:
    """`scipy.stats` is for bootstraps (eight pairs), failed runs and rank correlations."""
    code = (
        "import sys, ray_jobs.run, ray_jobs.upload\n"
        "assert not {'ray', 'mlflow', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)\n"
        "import tracking.evidence.guardrails, tracking.evidence.pooled, tracking.evidence.surrogate\n"
        "assert 'scipy.stats' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
