"""Cases in which bidkv's schedule once was not stock's, each as small as it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from fuzz.cases import Case, Engine, Op  # noqa: E402
from fuzz.check import check  # noqa: E402
from ray_jobs.engines.shared.tiny_model import make_tiny_llama  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


def adds(*requests: tuple[int, str, int, int], **more: Any) -> list[Op]:
    """Of (step, name, prompt, output)."""
    return [
        Op(at, "add", name, prompt=prompt, output=output, **more) for at, name, prompt, output in requests
    ]


CASES = {
    "stock's victim is in flight: vLLM takes nobody": Case(
        0,
        "preempt-evict",
        Engine(blocks=52, caching=True, depth=3, connector="sync", long_prefill=64),
        (
            Op(0, "add", "r7", prompt=64, output=10, prefix=64),
            Op(3, "add", "r4", prompt=180, output=10, prefix=40),
            *adds(
                (5, "r5", 180, 25),
                (6, "r0", 120, 25),
                (6, "r2", 64, 50),
                (10, "r3", 16, 50),
                (20, "r9", 33, 1),
            ),
        ),
    ),
    "a connector has most of the first in line, whose windows need no blocks for that": Case(
        0,
        "backfill-deep",
        Engine(blocks=127, budget=100, depth=2, layout="sliding", connector="sync"),
        (
            *adds((0, "r0", 1, 25), (0, "r2", 220, 2), (0, "r3", 33, 50)),
            *adds((0, "r5", 180, 10), (0, "r6", 269, 2), (0, "r7", 180, 25)),
        ),
    ),
    "with the kill switch on, who is preempted after a load that failed keeps its cached blocks": Case(
        0,
        "residual-cost",
        Engine(blocks=42, caching=True, connector="sync", fail_loads=True, long_prefill=64),
        (
            *adds((0, "r8", 64, 25), (2, "r3", 275, 25)),
            Op(3, "add", "r4", prompt=1, output=25, prefix=64),
            *adds((11, "r10", 272, 50), (17, "r5", 305, 50)),
        ),
        kill_switch=True,
    ),
    "a first in line that is short of memory does not fit into the step either": Case(
        0,
        "backfill-deep",
        Engine(blocks=41, budget=512, chunked=False),
        (
            Op(0, "add", "r14", prompt=64, output=1, prefix=64),
            *adds((0, "r22", 120, 1), (0, "r28", 275, 50), (1, "r1", 368, 25), (1, "r21", 180, 1)),
        ),
    ),
    "whose load failed goes back in front": Case(
        0,
        "backfill-deep",
        Engine(blocks=1501, budget=100, loras=1, connector="async", fail_loads=True),
        (
            *adds((1, "r4", 16, 25), lora=2),
            *adds((5, "r1", 180, 50), (6, "r5", 104, 1), lora=1),
            *adds((8, "r13", 1, 50), lora=3),
        ),
    ),
    "a session's next input keeps its place when the strategy is switched": Case(
        0,
        "lcf-guard",
        Engine(blocks=1501, seats=4, asynchronous=True, depth=2),
        (
            *adds((0, "r12", 64, 10)),
            *adds((0, "r15", 33, 10), resumable=True),
            *adds((0, "r21", 1, 10), (1, "r7", 16, 25)),
            *adds((1, "r18", 1, 2), (3, "r9", 33, 10), (4, "r8", 120, 50), resumable=True),
            *adds((4, "r11", 180, 1)),
            Op(5, "chunk", "r18", prompt=30, output=1),
            *adds((14, "r5", 120, 50), resumable=True),
            Op(29, "switch", value="watermark"),
            *(
                Op(at, "end", name)
                for at, name in ((30, "r8"), (42, "r5"), (49, "r15"), (53, "r9"), (54, "r18"))
            ),
        ),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_schedule_is_stocks(case: Case, model: Path, tmp_path: Path) -> None:
    verdict = check(case, model, tmp_path)
    assert verdict.skipped is None
    assert not verdict.failures
