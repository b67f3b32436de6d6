"""SGLang's tests run in SGLang's own environment: `make test-sglang`. Elsewhere they are skipped."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SHIM = HERE.parents[2] / "ray_jobs" / "engines" / "sim" / "sglang" / "shim"
NEEDS_SGLANG = (
    "test_adapter.py",
    "test_admission.py",
    "test_engine.py",
    "test_eviction.py",
    "test_fuzz_sglang.py",
    "test_leaks.py",
    "test_priorities.py",
    "test_ranks.py",
    "test_retraction.py",
    "test_sglang_recorder.py",
    "test_sglang_serve.py",
    "test_sglang_sim.py",
)

CPU_ENVIRONMENT = {
    "SGLANG_USE_CPU_ENGINE": "1",
    "SGLANG_CPU_OMP_THREADS_BIND": "0",
    "OMP_NUM_THREADS": "1",  # more threads slow a small model down by an order of magnitude on two cores
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
}


def has_sglang() -> bool:
    """Whether SGLang is installed; this folder, which has its name, does not count."""
    spec = importlib.util.find_spec("sglang")
    return spec is not None and spec.origin is not None


sys.path.insert(0, str(HERE))
if has_sglang():
    os.environ.update(CPU_ENVIRONMENT)
    sys.path.insert(0, str(SHIM))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SHIM), os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not has_sglang():
        skip = pytest.mark.skip(reason="sglang is not in this environment: run `make test-sglang`")
        for item in items:
            if item.path.parent == HERE and item.path.name in NEEDS_SGLANG:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two small layers whose greedy output is not one token over and over."""
    from ray_jobs.engines.shared.tiny_model import make_tiny_llama

    return make_tiny_llama(tmp_path_factory.mktemp("model"), seed=3, vocab_size=512, max_len=1024)


@pytest.fixture
def real(tiny_model: Path) -> Callable[..., Any]:
    """SGLang's real scheduler with these arguments; one at a time, since SGLang's configuration is the process's."""
    from real_scheduler import RealScheduler

    def make(tokens: int = 512, seats: int = 16, **args: Any) -> Any:
        return RealScheduler(tiny_model, max_total_tokens=tokens, max_running_requests=seats, **args)

    return make


@pytest.fixture
def hooked() -> Iterator[Callable[..., Any]]:
    """An adapter with these settings on a scheduler: see `hooks.py`."""
    from hooks import Hooks

    from bidkv.adapters.shared.settings import AdapterSettings

    hooks = Hooks()
    yield lambda scheduler, record=None, clock=None, **settings: hooks.install(
        scheduler, AdapterSettings(**{"client_facts": True, **settings}), record, clock
    )
    hooks.remove()
