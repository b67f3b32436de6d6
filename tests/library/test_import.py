from __future__ import annotations

import subprocess
import sys

import pytest

import bidkv


def test_import_needs_the_standard_library_alone() -> None:
    code = (
        "import bidkv, sys\n"
        "outside = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "assert not {'ray', 'vllm', 'torch', 'numpy'} & outside\n"
        "print(*sorted(m for m in outside if getattr(sys.modules[m], '__file__', None)))"
    )
    # -S leaves site-packages and its .pth files out.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=bidkv.__path__[0] + "/.."
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bidkv"]


@pytest.mark.parametrize("name", bidkv.__all__)
def test_everything_exported_exists_and_is_described(name: str) -> None:
    assert getattr(bidkv, name).__module__.startswith("bidkv")
